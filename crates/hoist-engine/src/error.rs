//! The engine's error is the API's: a kind and Docker's text. Subsystem errors are translated here, once.

pub(crate) use hoist_api::error::{Error, Kind};

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Translation of subsystem errors, as a method because both sides are foreign types.
pub(crate) trait Translate<T> {
    /// The same result in the API's words.
    fn api(self) -> Result<T>;
}

impl<T> Translate<T> for std::result::Result<T, hoist_db::Error> {
    fn api(self) -> Result<T> {
        self.map_err(|e| Error::internal(e.to_string()))
    }
}

impl<T> Translate<T> for std::result::Result<T, hoist_image::Error> {
    fn api(self) -> Result<T> {
        use hoist_image::Error as E;
        self.map_err(|e| {
            let text = e.to_string();
            match e {
                E::NotFound(_) => Error::not_found(text),
                E::Conflict(_) => Error::conflict(text),
                E::Invalid(_) => Error::invalid(text),
                E::Unauthorized(_) => Error::unauthorized(text),
                _ => Error::internal(text),
            }
        })
    }
}

impl<T> Translate<T> for std::result::Result<T, hoist_volume::Error> {
    fn api(self) -> Result<T> {
        use hoist_volume::Error as E;
        self.map_err(|e| {
            let text = e.to_string();
            match e {
                E::NotFound(_) => Error::not_found(text),
                E::InUse { .. } => Error::conflict(text),
                E::Invalid(_) => Error::invalid(text),
                _ => Error::internal(text),
            }
        })
    }
}

impl<T> Translate<T> for std::result::Result<T, hoist_network::Error> {
    fn api(self) -> Result<T> {
        use hoist_network::Error as E;
        self.map_err(|e| {
            let text = e.to_string();
            match e {
                E::NotFound(_) => Error::not_found(text),
                _ => Error::internal(text),
            }
        })
    }
}

/// An I/O failure with what was being done, e.g. `io("create", path)`.
pub(crate) fn io<'a>(what: &'a str, path: &'a std::path::Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |e| Error::internal(format!("{what} {}: {e}", path.display()))
}
