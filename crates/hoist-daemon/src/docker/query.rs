//! Query parameters with Go's rules.

use hoist_api::error::Error;

/// Decoded parameters in the order given.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(super) fn parse(text: &str) -> Query {
        let pairs = form_urlencoded::parse(text.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
        Query { pairs }
    }

    /// The first value of a parameter; empty when absent.
    pub(super) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(k, _)| k == name).map_or("", |(_, v)| v)
    }

    /// Whether the parameter was given at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(k, _)| k == name)
    }

    /// All values of a repeatable parameter.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(k, _)| k == name).map(|(_, v)| v.clone()).collect()
    }

    /// False is "", 0, no, false, none; anything else is true.
    pub(super) fn flag(&self, name: &str) -> bool {
        !matches!(self.get(name).trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A flag whose absence means `default`.
    pub(super) fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.has(name) { self.flag(name) } else { default }
    }

    /// An integer, if given.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Error> {
        match self.get(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Error::invalid(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))),
        }
    }

    /// A required unsigned integer that fits a terminal size.
    pub(super) fn size(&self, name: &str) -> Result<u16, Error> {
        let text = self.get(name);
        text.parse::<u32>().map(|n| u16::try_from(n).unwrap_or(u16::MAX)).map_err(|e| {
            use std::num::IntErrorKind::PosOverflow;
            let why = if *e.kind() == PosOverflow { "value out of range" } else { "invalid syntax" };
            Error::invalid(format!("invalid resize {} \"{text}\": {why}", if name == "h" { "height" } else { "width" }))
        })
    }

    /// `sec[.nanos]` in nanoseconds; zero and absence are none.
    pub(super) fn time_ns(&self, name: &str) -> Result<Option<i64>, Error> {
        Ok(self.moment_ns(name)?.filter(|&ns| ns != 0))
    }

    /// The same for those to whom zero is a time like any other.
    pub(super) fn moment_ns(&self, name: &str) -> Result<Option<i64>, Error> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        hoist_api::time::parse_unix(text)
            .or_else(|| hoist_api::time::parse_rfc3339(text))
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("invalid value for \"{name}\": {text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn booleans_follow_go() {
        let query = Query::parse("a=1&b=0&c=False&d=True&e=&f=none&g");
        assert!(query.flag("a") && query.flag("d"));
        for off in ["b", "c", "e", "f", "g", "absent"] {
            assert!(!query.flag(off), "{off}");
        }
        assert!(query.flag_or("absent", true));
    }

    #[test]
    fn zero_is_a_moment_and_no_limit() {
        let query = Query::parse("a=0&b=1.5");
        assert_eq!((query.moment_ns("a").unwrap(), query.time_ns("a").unwrap()), (Some(0), None));
        assert_eq!((query.moment_ns("b").unwrap(), query.moment_ns("absent").unwrap()), (Some(1_500_000_000), None));
    }

    #[test]
    fn sizes_of_terminals_are_refused_in_gos_words() {
        let query = Query::parse("h=99999999999&w=x");
        assert_eq!(query.size("h").unwrap_err().message, "invalid resize height \"99999999999\": value out of range");
        assert_eq!(query.size("w").unwrap_err().message, "invalid resize width \"x\": invalid syntax");
    }
}
