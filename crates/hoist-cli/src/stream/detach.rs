//! The key sequence that leaves a container running and gives the terminal back.

const DEFAULT: [u8; 2] = [16, 17]; // ctrl-p ctrl-q

/// `ctrl-p,ctrl-q`, `ctrl-@`, `a,b`
pub(crate) fn parse(keys: &str) -> Result<Vec<u8>, String> {
    if keys.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    let key = |text: &str| {
        let unknown = || format!("invalid detach keys ({keys}): Unknown character: '{text}'");
        match text.as_bytes() {
            [byte] => Ok(*byte),
            _ => match text.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([byte @ b'a'..=b'z']) => Ok(byte - b'a' + 1),
                Some(b"@") => Ok(0),
                Some([byte @ b'['..=b'_']) => Ok(byte - b'[' + 27),
                _ => Err(unknown()),
            },
        }
    };
    keys.split(',').map(key).collect()
}

/// Looks for the sequence in what is typed, across reads.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: Vec<u8>,
    matched: usize,
}

impl Watch {
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// What of the input is to be sent, and whether the sequence is complete. A sequence that was begun is held
    /// back until it is clear what it is.
    pub(crate) fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(input.len());
        for &byte in input {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if self.keys.first() == Some(&byte) && self.keys.len() > 1 {
                self.matched = 1;
            } else {
                out.push(byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_parsed() {
        assert_eq!(parse("").unwrap(), [16, 17]);
        assert_eq!(parse("ctrl-a,x,ctrl-@,ctrl-[,ctrl-_").unwrap(), [1, b'x', 0, 27, 31]);
        assert!(parse("ctrl-P").is_err() && parse("ab").is_err());
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_its_beginnings_are_not_lost() {
        let mut watch = Watch::new(vec![16, 17]);
        assert_eq!(watch.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(watch.filter(b"c\x10\x10"), (b"\x10c\x10".to_vec(), false));
        assert_eq!(watch.filter(b"\x11rest"), (Vec::new(), true));
    }
}
