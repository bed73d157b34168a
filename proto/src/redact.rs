//! Debug of messages that hold secrets: the names of the secrets are shown, never their values. Whatever contains such a message (a
//! mutation, a log entry) is thereby safe to print.

use crate::pb::Storage;
use std::fmt;

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("kind", &self.kind)
            .field("url", &self.url)
            .field("options", &self.options)
            .field("secrets", &self.secrets.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::pb;

    #[test]
    fn secrets_are_not_in_the_debug_text_of_anything_that_holds_them() {
        let secrets = [("secret_access_key".to_owned(), "hunter2".to_owned())].into();
        let storage = Some(pb::Storage { kind: "s3".into(), url: "s3://b".into(), secrets, ..Default::default() });
        let settings = Some(pb::VolumeSettings { storage, ..Default::default() });
        let op = Some(pb::mutation::Op::FormatVolume(pb::FormatVolumeOp { settings }));
        let text = format!(
            "{:?}",
            pb::LogEntry { mutations: vec![pb::Mutation { op, ..Default::default() }], time: None, tight: false }
        );
        assert!(text.contains("secret_access_key") && text.contains("s3://b"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
