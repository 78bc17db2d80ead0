//! The kernel's errors in messages, as Docker has them.

use std::io;

const MARK: &str = " (os error ";

/// The message with every error of the kernel's as Go programs print it: its first letter small, and without the number that
/// Rust adds.
pub fn without_numbers(mut message: String) -> String {
    let mut from = 0;
    while let Some(at) = message[from..].find(MARK).map(|found| from + found) {
        let number: String = message[at + MARK.len()..].chars().take_while(char::is_ascii_digit).collect();
        let whole = number.parse().map(|number| io::Error::from_raw_os_error(number).to_string()).unwrap_or_default();
        let text = whole.split(MARK).next().unwrap_or_default();
        match at.checked_sub(text.len()) {
            Some(start)
                if !text.is_empty() && message[..at].ends_with(text) && message[start..].starts_with(&whole) =>
            {
                let mut letters = text.chars();
                let first = letters.next().into_iter().flat_map(char::to_lowercase);
                let small: String = first.chain(letters).collect();
                message.replace_range(start..start + whole.len(), &small);
                from = at;
            }
            _ => from = at + MARK.len(),
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_kernel_read_as_those_of_go() {
        let of = |number| io::Error::from_raw_os_error(number);
        let text = format!("ä /a: {}; and then {}.", of(2), of(13));
        assert_eq!(without_numbers(text), "ä /a: no such file or directory; and then permission denied.");
        assert_eq!(without_numbers(of(5).to_string()), "input/output error");
        let numbers = ["(os error", "(os error )", "(os error 2", "(os error 99999999999999)", "(os error 2)"];
        for same in numbers.map(|end| format!("ä {end}")).into_iter().chain([String::new(), " (os error 2)".into()]) {
            assert_eq!(without_numbers(same.clone()), same);
        }
    }
}
