//! Layers good and evil.
