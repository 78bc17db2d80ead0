//! The fixed 512-byte header of a tar entry (POSIX ustar, GNU, V7). Pure.

use std::io;

use super::stream::invalid;

pub(crate) const BLOCK: usize = 512;

pub(crate) struct Header<'a> {
    block: &'a [u8; BLOCK],
}

/// Whether a block is a tar header, by its checksum.
pub(crate) fn is_tar_header(block: &[u8]) -> bool {
    <&[u8; BLOCK]>::try_from(block).is_ok_and(|block| Header::parse(block).is_ok())
}

impl<'a> Header<'a> {
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> io::Result<Header<'a>> {
        let wanted = number(&block[148..156])?;
        let in_checksum = |index: usize| (148..156).contains(&index);
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (index, &byte) in block.iter().enumerate() {
            let byte = if in_checksum(index) { b' ' } else { byte };
            unsigned += i64::from(byte);
            // Sun's tar summed signed bytes.
            signed += i64::from(byte.cast_signed());
        }
        if wanted == unsigned || wanted == signed { Ok(Header { block }) } else { Err(invalid("invalid tar header")) }
    }

    pub(super) fn kind_byte(&self) -> u8 {
        self.block[156]
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        let is_posix = &self.block[257..263] == b"ustar\0";
        let prefix = if is_posix { text(&self.block[345..500]) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> io::Result<u32> {
        // Some writers put the file type there as well, which may make it look negative in base-256: keep the low bits.
        number(&self.block[100..108]).map(|mode| (mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> io::Result<i64> {
        number(&self.block[108..116])
    }

    pub(super) fn gid(&self) -> io::Result<i64> {
        number(&self.block[116..124])
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        let size = number(&self.block[124..136])?;
        u64::try_from(size).map_err(|_| invalid(format!("invalid tar header: size {size}")))
    }

    pub(super) fn mtime(&self) -> io::Result<i64> {
        number(&self.block[136..148])
    }

    pub(super) fn device(&self) -> io::Result<(u32, u32)> {
        let part = |bytes| {
            let value = number(bytes)?;
            u32::try_from(value).map_err(|_| invalid(format!("invalid tar header: device number {value}")))
        };
        Ok((part(&self.block[329..337])?, part(&self.block[337..345])?))
    }
}

fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]
}

/// A numeric field: octal digits, or GNU's base-256 (two's complement, marked by the top bit) for what does not fit.
pub(super) fn number(field: &[u8]) -> io::Result<i64> {
    let bad = || invalid("invalid tar header: bad number");
    match field.first() {
        Some(first) if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let start: i128 = if negative { -1 } else { 0 };
            let mut value = start;
            for (index, &byte) in field.iter().enumerate() {
                let byte = if index == 0 && !negative { byte & 0x7f } else { byte };
                value = value.checked_mul(256).ok_or_else(bad)? | i128::from(byte);
                if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
                    return Err(bad());
                }
            }
            i64::try_from(value).map_err(|_| bad())
        }
        _ => {
            let digits = field.trim_ascii_start();
            let end = digits.iter().position(|&b| b == 0 || b == b' ').unwrap_or(digits.len());
            digits[..end].iter().try_fold(0_i64, |value, &digit| match digit {
                b'0'..=b'7' => {
                    value.checked_mul(8).and_then(|v| v.checked_add(i64::from(digit - b'0'))).ok_or_else(bad)
                }
                _ => Err(bad()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000755\0").unwrap(), 0o755);
        assert_eq!(number(b"   755 \0").unwrap(), 0o755);
        assert_eq!(number(&[0; 8]).unwrap(), 0);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 0]).unwrap(), 256);
        assert_eq!(number(&[0xff; 12]).unwrap(), -1);
        assert!(number(b"00009\0").is_err());
        assert!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
