//! Splits a command line as a shell does, without expanding anything.

/// The words of `line`: separated by blanks, with single quotes, double quotes and backslashes.
pub(crate) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\n' | '\t' => words.extend(word.take()),
            '\'' => word.get_or_insert_default().extend(characters.by_ref().take_while(|next| *next != '\'')),
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(next) = characters.next() {
                    match next {
                        '"' => break,
                        '\\' => word.extend(characters.next()),
                        next => word.push(next),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn quotes_keep_blanks_and_may_be_empty() {
        assert_eq!(split("run  -e 'A=b c' x"), ["run", "-e", "A=b c", "x"]);
        assert_eq!(split(r#"a "b \" c" '' d\ e f"g"'h'"#), ["a", "b \" c", "", "d e", "fgh"]);
    }
}
