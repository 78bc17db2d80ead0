//! What cargo-nextest and `cargo test` ask of a program of tests that has its own `main`: a list, and which to run.

/// The command line.
pub(crate) struct Wanted {
    listing: bool,
    ignored: bool,
    exact: bool,
    names: Vec<String>,
}

impl Wanted {
    pub(crate) fn of(arguments: &[String]) -> Wanted {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let mut names = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                // Its value is not a name.
                "--format" => drop(rest.next()),
                flag if flag.starts_with('-') => {}
                name => names.push(name.to_owned()),
            }
        }
        Wanted { listing: has("--list"), ignored: has("--ignored"), exact: has("--exact"), names }
    }

    /// Prints the names, if that is what is wanted.
    pub(crate) fn list<'a>(&self, names: impl Iterator<Item = &'a str>) -> bool {
        if self.listing && !self.ignored {
            names.for_each(|name| println!("{name}: test"));
        }
        self.listing
    }

    /// By its whole name, or by a part of it.
    pub(crate) fn includes(&self, name: &str) -> bool {
        let fits = |wanted: &String| if self.exact { name == wanted } else { name.contains(wanted.as_str()) };
        !self.ignored && (self.names.is_empty() || self.names.iter().any(fits))
    }
}
