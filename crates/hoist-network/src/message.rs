//! Bytes of netlink(7) messages: a writer for batches, a reader for answers. Knows framing and attributes, no meaning.

use std::net::Ipv4Addr;

/// `NLM_F_*` flags of requests.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 0x01;
    pub(crate) const ACK: u16 = 0x04;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCL: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
    pub(crate) const DUMP: u16 = 0x300;
}

const NESTED: u16 = 0x8000;
const HEADER_BYTES: usize = 16;

/// Messages to be sent in one sendmsg(2), numbered from 1.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch::default()
    }

    /// Adds a message: its fixed header (`ifinfomsg` and the like), then what `fill` writes. `NLM_F_REQUEST` is implied.
    pub(crate) fn add(&mut self, kind: u16, flags: u16, fixed: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | flag::REQUEST).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        let mut attributes = Attributes { bytes: &mut self.bytes };
        attributes.raw(fixed);
        fill(&mut attributes);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes the attributes of one message.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// What `fill` writes, alone.
    pub(crate) fn collect(fill: impl FnOnce(&mut Attributes<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        fill(&mut Attributes { bytes: &mut bytes });
        bytes
    }

    /// Plain bytes, padded to the next multiple of four.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.pad();
    }

    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.raw(value);
    }

    /// As [`Attributes::put`]; returns where in the batch the value lies.
    pub(crate) fn put_at(&mut self, kind: u16, value: &[u8]) -> usize {
        let at = self.bytes.len() + 4;
        self.put(kind, value);
        at
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Network byte order, as nf_tables wants all its numbers.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend(value.as_bytes());
        bytes.push(0);
        self.put(kind, &bytes);
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        fill(&mut Attributes { bytes: self.bytes });
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The fixed header and the attributes of an answer.
pub(crate) fn split(message: &[u8], fixed_bytes: usize) -> Option<(&[u8], Parsed<'_>)> {
    let body = message.get(HEADER_BYTES..)?;
    let fixed = body.get(..fixed_bytes)?;
    Some((fixed, Parsed { bytes: body.get(fixed_bytes.next_multiple_of(4)..)? }))
}

/// Attributes of an answer, in order; ends at the first malformed one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed<'a> {
    bytes: &'a [u8],
}

impl<'a> Parsed<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Parsed<'a> {
        Parsed { bytes }
    }

    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    pub(crate) fn nested(self, kind: u16) -> Option<Parsed<'a>> {
        self.get(kind).map(Parsed::new)
    }

    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
    }

    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        self.get(kind).and_then(|value| u32_at(value, 0))
    }

    pub(crate) fn be32(self, kind: u16) -> Option<u32> {
        self.u32(kind).map(u32::from_be)
    }

    pub(crate) fn ipv4(self, kind: u16) -> Option<Ipv4Addr> {
        <[u8; 4]>::try_from(self.get(kind)?).ok().map(Ipv4Addr::from)
    }
}

impl<'a> Iterator for Parsed<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.bytes, 0)?);
        let kind = u16_at(self.bytes, 2)? & 0x3fff;
        let value = self.bytes.get(4..length)?;
        self.bytes = self.bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_malformed_attributes_end_the_list() {
        let mut batch = Batch::new();
        let mut at = 0;
        batch.add(1, flag::ACK, &[9; 4], |a| {
            a.text(1, "abc");
            a.nest(2, |a| {
                at = a.put_at(3, &7u32.to_ne_bytes());
            });
        });
        let bytes = batch.into_bytes();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(u32_at(&bytes, at), Some(7));
        let (fixed, attributes) = split(&bytes, 4).unwrap();
        assert_eq!(fixed, [9; 4]);
        assert_eq!(attributes.text(1), Some("abc"));
        assert_eq!(attributes.nested(2).and_then(|a| a.u32(3)), Some(7));
        assert_eq!(Parsed::new(&[200, 0, 1, 0, 5]).count(), 0);
        assert_eq!(Parsed::new(&[1, 0, 1, 0]).count(), 0);
    }
}
