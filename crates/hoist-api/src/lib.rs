//! The vocabulary: Docker's wire types, routes, image references, filters, error kinds and texts. No I/O, no async.

#![forbid(unsafe_code)]

pub mod error;
pub mod image;
pub mod reference;
