//! Routes that only our own engine has, and what is said where the engine at the other end has none.

use hoist_client::Error;

use crate::app::Failure;

/// Whether the engine does not know what it was asked, in the ways engines say so.
pub(crate) fn is_unknown_route(error: &Error) -> bool {
    matches!(error, Error::Api { status: 404 | 405 | 501, message, .. }
        if message.contains("page not found") || message.contains("not implemented"))
}

/// The failure of a request that `what` sends to our engine alone: another one's answer is explained.
pub(crate) fn only_ours(what: &str) -> impl FnOnce(Error) -> Failure {
    move |error| match is_unknown_route(&error) {
        true => format!("{what} is for engines of Hoist only: the engine at the other end is another one").into(),
        false => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, message: &str) -> String {
        only_ours("image pin")(Error::Api { status, message: message.to_owned(), container: None }).text
    }

    #[test]
    fn an_engine_without_the_route_is_told_apart_from_one_that_refuses() {
        let explained = "image pin is for engines of Hoist only: the engine at the other end is another one";
        assert_eq!(said(404, "page not found"), explained);
        assert_eq!(said(501, "not implemented"), explained);
        assert_eq!(said(404, "No such image: x"), "Error response from daemon: No such image: x");
        assert_eq!(said(500, "page not found"), "Error response from daemon: page not found");
    }
}
