//! `search`: what a registry finds, with Docker's bounds and filters.

use hoist_api::filters::Filters;
use hoist_image::{Credentials, SearchResult};

use crate::error::{Error, Result, Translate};
use crate::images::Images;

/// Filter keys of `GET /images/search`.
pub const SEARCH_FILTER_KEYS: [&str; 3] = ["is-automated", "is-official", "stars"];

const DEFAULT_LIMIT: i64 = 25;
const MAX_LIMIT: i64 = 100;

impl Images {
    /// Asks the registry that the term names, or the default index. A limit of 0 is the default one.
    pub async fn search(
        &self,
        term: &str,
        limit: i64,
        filters: &Filters,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<SearchResult>> {
        let wanted = Wanted::of(filters)?;
        let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
        let bad = || Error::invalid(format!("limit {limit} is outside the range of [1, {MAX_LIMIT}]"));
        let limit = usize::try_from(limit).ok().filter(|_| limit <= MAX_LIMIT).ok_or_else(bad)?;
        if wanted.automated {
            // nothing is automated any more, which is known without asking
            return Ok(Vec::new());
        }
        let mut found = self.store().search(term, limit, credentials).await.api()?;
        found.retain(|result| wanted.fits(result));
        Ok(found)
    }
}

/// The filters, read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    automated: bool,
    official: Option<bool>,
    stars: i64,
}

impl Wanted {
    fn of(filters: &Filters) -> Result<Wanted> {
        let boolean = |key: &str| -> Result<Option<bool>> {
            let bad = || Error::invalid(format!("invalid filter '{key}=[{}]'", filters.values(key).join(" ")));
            filters.boolean(key).map_err(|_| bad())
        };
        let mut stars = 0;
        for value in filters.values("stars") {
            let bad = |_| {
                let text = format!("invalid filter 'stars={value}': strconv.Atoi: parsing \"{value}\": invalid syntax");
                Error::invalid(text)
            };
            stars = value.parse::<i64>().map_err(bad)?.max(stars);
        }
        Ok(Wanted { automated: boolean("is-automated")?.unwrap_or(false), official: boolean("is-official")?, stars })
    }

    fn fits(&self, result: &SearchResult) -> bool {
        self.official.is_none_or(|wanted| wanted == result.is_official) && result.star_count >= self.stars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(filters: &str) -> Result<Wanted> {
        Wanted::of(&Filters::parse(filters, &SEARCH_FILTER_KEYS)?)
    }

    #[test]
    fn filters_choose_by_stars_and_origin() {
        let wanted = wanted(r#"{"is-official":{"true":true},"stars":{"3":true,"5":true}}"#).unwrap();
        let result = |star_count, is_official| SearchResult { star_count, is_official, ..SearchResult::default() };
        assert!(wanted.fits(&result(5, true)));
        assert!(!wanted.fits(&result(4, true)) && !wanted.fits(&result(9, false)));
        assert!(Wanted::default().fits(&result(0, false)));
    }

    #[test]
    fn wrong_filters_are_told_as_docker_tells_them() {
        let text = |filters: &str| wanted(filters).unwrap_err().message;
        assert_eq!(text(r#"{"foo":["bar"]}"#), "invalid filter 'foo'");
        assert_eq!(text(r#"{"is-official":["x"]}"#), "invalid filter 'is-official=[x]'");
        assert_eq!(text(r#"{"stars":["a"]}"#), "invalid filter 'stars=a': strconv.Atoi: parsing \"a\": invalid syntax");
    }
}
