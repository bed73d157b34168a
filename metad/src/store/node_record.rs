//! A member of the cluster, as it is stored, and the names of the lives of its disk. Called by read, apply and identity.
//!
//! ```text
//! NODE         store 16 bytes (0: none yet) | newcomer 16 bytes (0: none) | former count u8 | former 16 bytes each | address
//! ```

use super::StoreError;
use super::codec::{Reader, Record, Writer};
use super::keys::kind;
use std::fmt;
use std::num::NonZeroU128;

/// Former lives that are remembered, to be refused by name.
const FORMER_MAX: usize = 16;

/// One life of a node's data directory: random, made with it. Whoever has another one knows nothing of what this one promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreId(pub NonZeroU128);

impl StoreId {
    /// None for 0, which stands for "none" where ids are stored.
    pub fn new(number: u128) -> Option<StoreId> {
        NonZeroU128::new(number).map(StoreId)
    }

    pub fn parse(text: &str) -> Option<StoreId> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().and_then(StoreId::new)
    }

    pub fn from_wire(bytes: &[u8]) -> Option<StoreId> {
        bytes.try_into().ok().map(u128::from_be_bytes).and_then(StoreId::new)
    }

    pub fn to_wire(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.0.get().to_be_bytes())
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRecord {
    pub addr: String,
    /// The life that may take part; None before the node has first been heard of.
    pub store: Option<StoreId>,
    /// A life that wants to come in place of `store`, once Raft has forgotten that one.
    pub newcomer: Option<StoreId>,
    /// Lives that have been replaced, oldest first.
    pub former: Vec<StoreId>,
}

impl NodeRecord {
    pub fn new(addr: &str) -> NodeRecord {
        NodeRecord { addr: addr.to_owned(), ..NodeRecord::default() }
    }

    /// Puts the newcomer in its place.
    pub fn admit(&mut self) {
        let Some(newcomer) = self.newcomer.take() else { return };
        if let Some(old) = self.store.replace(newcomer) {
            self.former.push(old);
            let surplus = self.former.len().saturating_sub(FORMER_MAX);
            self.former.drain(..surplus);
        }
    }
}

fn write_store(out: &mut Writer, store: Option<StoreId>) {
    out.rest(&store.map_or(0, |store| store.0.get()).to_le_bytes());
}

fn read_store(input: &mut Reader<'_>) -> Result<Option<StoreId>, StoreError> {
    let (low, high) = (input.u64()?, input.u64()?);
    Ok(StoreId::new(u128::from(high) << 64 | u128::from(low)))
}

impl Record for NodeRecord {
    const KIND: u8 = kind::NODE;
    const SIZE_HINT: usize = 64;
    fn write(&self, out: &mut Writer) {
        write_store(out, self.store);
        write_store(out, self.newcomer);
        out.u8(self.former.len() as u8);
        self.former.iter().for_each(|store| write_store(out, Some(*store)));
        out.rest(self.addr.as_bytes());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        let (store, newcomer, count) = (read_store(input)?, read_store(input)?, input.u8()?);
        let life = |_| read_store(input)?.ok_or_else(|| input.damaged("a former life without an id"));
        let former = (0..count).map(life).collect::<Result<_, _>>()?;
        let addr = std::str::from_utf8(input.rest()).map_err(|_| input.damaged("address is no text"))?.to_owned();
        Ok(NodeRecord { addr, store, newcomer, former })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(number: u128) -> StoreId {
        StoreId::new(number).expect("not 0")
    }

    #[test]
    fn a_node_is_read_as_it_was_written() {
        let node = NodeRecord {
            addr: "[::1]:9400".to_owned(),
            store: Some(store(u128::MAX)),
            newcomer: None,
            former: vec![store(1), store(2 << 64)],
        };
        assert_eq!(NodeRecord::decode(&node.encode()).expect("intact"), node);
        let fresh = NodeRecord::new("a:1");
        assert_eq!(NodeRecord::decode(&fresh.encode()).expect("intact"), fresh);
        assert!(NodeRecord::decode(&node.encode()[..30]).is_err());
    }

    #[test]
    fn the_newcomer_takes_the_place_and_the_old_life_is_remembered() {
        let mut node = NodeRecord::new("a:1");
        for number in 1..=20 {
            node.newcomer = Some(store(number));
            node.admit();
            assert_eq!((node.store, node.newcomer), (Some(store(number)), None));
        }
        assert_eq!(node.former.len(), FORMER_MAX);
        assert_eq!(node.former.last(), Some(&store(19)));
    }

    #[test]
    fn a_store_id_survives_text_and_wire() {
        let id = store(0x0123 << 100);
        assert_eq!(StoreId::parse(&id.to_string()), Some(id));
        assert_eq!(StoreId::from_wire(&id.to_wire()), Some(id));
        assert_eq!((StoreId::from_wire(&[1]), StoreId::from_wire(&[0; 16]), StoreId::parse("zz")), (None, None, None));
    }
}
