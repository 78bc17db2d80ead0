//! The framing of attach and log streams without a terminal: eight bytes of header, then the payload.

/// The frames of a stream as (stream number, payload), and what is left over when the last one is cut.
pub fn frames(mut stream: &[u8]) -> (Vec<(u8, Vec<u8>)>, usize) {
    let mut frames = Vec::new();
    while let [kind, 0, 0, 0, a, b, c, d, rest @ ..] = stream {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(payload) = rest.get(..length) else { break };
        frames.push((*kind, payload.to_vec()));
        stream = &rest[length..];
    }
    (frames, stream.len())
}

/// What was written to stdout and to stderr. Panics on bytes that are no frame.
#[track_caller]
pub fn demultiplex(stream: &[u8]) -> (String, String) {
    let (frames, rest) = frames(stream);
    assert_eq!(rest, 0, "bytes that are no frame at the end of {:?}", String::from_utf8_lossy(stream));
    let of =
        |number: u8| frames.iter().filter(move |(kind, _)| *kind == number).flat_map(|(_, payload)| payload.clone());
    let text = |number: u8| String::from_utf8_lossy(&of(number).collect::<Vec<u8>>()).into_owned();
    (text(1), text(2))
}
