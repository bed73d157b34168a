//! Register: one value that may be absent, such as an extended attribute or a name made with O_EXCL. `write`, `read`, `cas`, `create` (only
//! where there is none), `replace` (only where there is one), `remove`. Pure. Called by checker/register.

use super::Model;
use crate::history::{Ending, Operation};
use serde_json::Value;

#[derive(Clone, Copy, Debug, Default)]
pub struct Register;

/// Absent, or its JSON.
pub type Content = Option<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    Read,
    Write(Content),
    Cas(Content, Content),
    Create(Content),
    Replace(Content),
    Remove,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Refused,
    Done(Content),
}

#[derive(Clone, Debug)]
pub struct Call {
    ask: Ask,
    seen: Seen,
}

/// A refusal that says that there is nothing.
const ABSENT: [&str; 2] = ["ENOENT", "ENODATA"];

fn content(value: Option<&Value>) -> Content {
    value.filter(|value| !value.is_null()).map(Value::to_string)
}

impl Model for Register {
    type Call = Call;
    type State = Content;

    fn call(&self, operation: &Operation) -> Result<Call, String> {
        let input = |name: &str| content(operation.input.get(name));
        let ask = match operation.f.as_str() {
            "read" => Ask::Read,
            "write" => Ask::Write(input("value")),
            "cas" => Ask::Cas(input("old"), input("value")),
            "create" => Ask::Create(input("value").or_else(|| Some("true".into()))),
            "replace" => Ask::Replace(input("value")),
            "remove" => Ask::Remove,
            other => return Err(format!("a register knows no {other}")),
        };
        let absent = operation.errno().is_some_and(|errno| ABSENT.contains(&errno));
        let seen = match (&operation.ending, operation.errno()) {
            (Ending::Info | Ending::Fail, _) => Seen::Nothing,
            (Ending::Ok(_), Some(_)) if ask == Ask::Read && absent => Seen::Done(None),
            (Ending::Ok(_), Some(errno)) if is_refusal(&ask, errno) => Seen::Refused,
            (Ending::Ok(_), Some(errno)) => {
                return Err(format!("a register does not refuse a {} so: {errno}", operation.f));
            }
            (Ending::Ok(output), None) => Seen::Done(content(output.get("value"))),
        };
        Ok(Call { ask, seen })
    }

    fn init(&self) -> Content {
        None
    }

    fn step(&self, state: &Content, call: &Call) -> Option<Content> {
        let after = match &call.ask {
            Ask::Read => Some(state.clone()),
            Ask::Write(value) => Some(value.clone()),
            Ask::Cas(old, new) => (old == state).then(|| new.clone()),
            Ask::Create(value) => state.is_none().then(|| value.clone()),
            Ask::Replace(value) => state.is_some().then(|| value.clone()),
            Ask::Remove => state.is_some().then_some(None),
        };
        match &call.seen {
            Seen::Nothing => after.filter(|after| after != state),
            Seen::Refused if after.is_none() => Some(state.clone()),
            Seen::Refused => None,
            Seen::Done(found) if call.ask == Ask::Read && found != state => None,
            Seen::Done(_) => after,
        }
    }

    fn are_twins(&self, one: &Call, other: &Call) -> bool {
        one.ask == other.ask
    }
}

/// Whether this is how `ask` says that it found what it did not want.
fn is_refusal(ask: &Ask, errno: &str) -> bool {
    match ask {
        Ask::Read | Ask::Write(_) => false,
        Ask::Cas(..) => true,
        Ask::Create(_) => errno == "EEXIST",
        Ask::Replace(_) | Ask::Remove => ABSENT.contains(&errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::Build;
    use serde_json::json;

    fn after(state: Option<i64>, f: &str, input: Value, output: Value) -> Option<Content> {
        let mut build = Build::default();
        build.run(1, f, input, output);
        let operations = build.history().operations().expect("well-formed");
        let call = Register.call(&operations[0]).expect("reads");
        Register.step(&state.map(|value| value.to_string()), &call)
    }

    #[test]
    fn each_call_is_what_it_says() {
        let one = Some(Some("1".to_string()));
        assert_eq!(after(Some(1), "read", json!({}), json!({"value": 1})), one);
        assert_eq!(after(Some(2), "read", json!({}), json!({"value": 1})), None);
        assert_eq!(after(None, "read", json!({}), json!({"errno": "ENODATA"})), Some(None));
        assert_eq!(after(Some(1), "read", json!({}), json!({"errno": "ENODATA"})), None);
        assert_eq!(after(Some(2), "write", json!({"value": 1}), json!({})), one);
        assert_eq!(after(Some(2), "cas", json!({"old": 2, "value": 1}), json!({})), one);
        assert_eq!(after(Some(3), "cas", json!({"old": 2, "value": 1}), json!({})), None);
        assert_eq!(after(Some(2), "cas", json!({"old": 2, "value": 1}), json!({"errno": "EAGAIN"})), None);
        assert_eq!(after(None, "create", json!({"value": 1}), json!({})), one);
        assert_eq!(after(Some(1), "create", json!({"value": 1}), json!({})), None);
        assert_eq!(after(Some(1), "create", json!({"value": 2}), json!({"errno": "EEXIST"})), one);
        assert_eq!(after(None, "replace", json!({"value": 1}), json!({})), None);
        assert_eq!(after(Some(1), "remove", json!({}), json!({})), Some(None));
        assert_eq!(after(Some(1), "remove", json!({}), json!({"errno": "ENOENT"})), None);
    }

    #[test]
    fn an_odd_refusal_is_not_read() {
        let mut build = Build::default();
        build.run(1, "create", json!({"value": 1}), json!({"errno": "ENOTDIR"}));
        let operations = build.history().operations().expect("well-formed");
        assert!(Register.call(&operations[0]).is_err());
    }
}
