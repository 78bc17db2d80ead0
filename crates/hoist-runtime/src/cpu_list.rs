//! Lists of processors and memory nodes as the kernel writes them (cpuset(7)): `0-3,7`.

use std::ops::RangeInclusive;

/// The ranges of a list, as they come; `None` for what is no list, an empty text too. Blanks around numbers are skipped.
pub fn parse(list: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some(first..=last)
    };
    list.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_ranges_and_numbers() {
        assert_eq!(parse("0-2, 7"), Some(vec![0..=2, 7..=7]));
        for bad in ["", "a", "3-1", "1,,2", "-1", "1-2-3"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
