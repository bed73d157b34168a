//! How a record is laid out: a version byte, then fixed little-endian fields in the order they are written. Called by records.

use super::StoreError;
use bytes::Bytes;

/// A value of the state. A new version is read beside the old ones; a version is never used twice.
pub trait Record: Sized {
    /// Kind byte of its key, for messages.
    const KIND: u8;
    /// Newest version, which is the one written.
    const VERSION: u8 = 1;
    /// Bytes to set aside for encoding.
    const SIZE_HINT: usize;

    fn write(&self, out: &mut Writer);
    /// # Errors
    /// The bytes are not what `write` wrote.
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError>;

    fn encode(&self) -> Bytes {
        let mut out = Writer(Vec::with_capacity(Self::SIZE_HINT + 1));
        out.u8(Self::VERSION);
        self.write(&mut out);
        out.0.into()
    }

    /// # Errors
    /// An unknown version or damaged bytes.
    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut input = Reader { kind: Self::KIND, rest: bytes };
        let found = input.u8()?;
        if found == 0 || found > Self::VERSION {
            return Err(StoreError::RecordVersion { kind: Self::KIND, found, newest: Self::VERSION });
        }
        let record = Self::read(&mut input)?;
        if input.rest.is_empty() { Ok(record) } else { Err(input.damaged("bytes after the last field")) }
    }
}

/// Appends fields.
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    /// To the end of the record: nothing may follow.
    pub fn rest(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Takes fields off the front.
pub struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.damaged("too short"));
        };
        self.rest = rest;
        Ok(*head)
    }
    pub fn u8(&mut self) -> Result<u8, StoreError> {
        Ok(self.take::<1>()?[0])
    }
    pub fn u32(&mut self) -> Result<u32, StoreError> {
        Ok(u32::from_le_bytes(self.take()?))
    }
    pub fn u64(&mut self) -> Result<u64, StoreError> {
        Ok(u64::from_le_bytes(self.take()?))
    }
    pub fn i64(&mut self) -> Result<i64, StoreError> {
        Ok(i64::from_le_bytes(self.take()?))
    }
    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    pub fn damaged(&self, detail: &str) -> StoreError {
        StoreError::Damaged { what: "record", detail: format!("kind {:#04x}: {detail}", self.kind) }
    }
}
