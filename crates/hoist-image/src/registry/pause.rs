//! When to ask a registry again: what it says itself, or ever later.

use std::time::Duration;

use super::client::Repository;
use super::error::Failure;
use crate::Progress;

/// A registry that wants us to stay away for longer is not waited for.
const RATE_LIMIT_WAIT_MAX: Duration = Duration::from_secs(120);

impl Repository {
    /// How long to wait before another attempt; none if there is to be none. A registry that says when to come back is
    /// obeyed, within bounds.
    pub(crate) fn pause(&self, failure: &Failure, attempt: u32) -> Option<Duration> {
        if !failure.is_transient() || attempt >= self.attempts {
            return None;
        }
        let Some(wanted) = failure.retry_after() else { return Some(back_off(attempt)) };
        if wanted > RATE_LIMIT_WAIT_MAX {
            return None;
        }
        let (host, seconds) = (self.endpoint.origin.authority(), wanted.as_secs().max(1));
        let plural = if seconds == 1 { "" } else { "s" };
        let text = format!("{host} limits the rate of requests ({failure}): retrying in {seconds} second{plural}");
        (self.progress)(Progress::status(None, text));
        Some(wanted)
    }
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
pub(super) fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    let left = date.as_second().saturating_sub(jiff::Timestamp::now().as_second());
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// 0.5, 1, 2, 4 … seconds, and some more so that many clients do not come back together.
fn back_off(attempt: u32) -> Duration {
    let base = 500_u64 << attempt.saturating_sub(1).min(5);
    Duration::from_millis(base + rand::random_range(0..=base / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_says_when_in_seconds_or_by_a_date() {
        assert_eq!(retry_after("120"), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        for wrong in ["", "-1", "soon"] {
            assert_eq!(retry_after(wrong), None, "{wrong}");
        }
    }
}
