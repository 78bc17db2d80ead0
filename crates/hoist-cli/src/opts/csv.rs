//! One line of comma-separated values with Go's quoting rules: a field that begins with a quote ends with one, `""`
//! is a quote inside it, and quotes elsewhere are errors.

pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (field, behind) = quoted_field(quoted, line.len() - quoted.len())?;
            fields.push(field);
            match behind.strip_prefix(',') {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
        } else {
            let (field, next) = match rest.split_once(',') {
                Some((field, next)) => (field, Some(next)),
                None => (rest, None),
            };
            if let Some(at) = field.find('"') {
                let column = line.len() - rest.len() + at + 1;
                return Err(format!("parse error on line 1, column {column}: bare \" in non-quoted-field"));
            }
            fields.push(field.to_owned());
            match next {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
        }
    }
}

/// The field behind its opening quote, and what follows it. `offset` is where the field begins in the line.
fn quoted_field(text: &str, offset: usize) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let Some(at) = rest.find('"') else {
            let column = offset + text.len() + 1;
            return Err(format!("parse error on line 1, column {column}: extraneous or missing \" in quoted-field"));
        };
        field.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(next) = rest.strip_prefix('"') {
            field.push('"');
            rest = next;
        } else if rest.is_empty() || rest.starts_with(',') {
            return Ok((field, rest));
        } else {
            let column = offset + text.len() - rest.len();
            return Err(format!("parse error on line 1, column {column}: extraneous or missing \" in quoted-field"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_protect_commas() {
        assert_eq!(fields("a=1,\"b=x,y\",c").unwrap(), ["a=1", "b=x,y", "c"]);
        assert_eq!(fields("\"a\"\"b\"").unwrap(), ["a\"b"]);
        assert!(fields("a\"b").is_err() && fields("\"a").is_err() && fields("\"a\"b").is_err());
    }
}
