//! Which images go when all of them together take more of the disk than they may: those that were used longest ago and that
//! nobody needs. Pure.

use std::collections::{HashMap, HashSet};

/// What there is, measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holdings {
    pub(crate) candidates: Vec<Candidate>,
    /// Bytes on disk and how many need it: images, each as often as it has it, containers and work in progress.
    pub(crate) layers: HashMap<String, (u64, usize)>,
}

/// An image that may go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    /// For people.
    pub(crate) name: String,
    pub(crate) parent: Option<String>,
    pub(crate) used_ns: i64,
    pub(crate) is_pinned: bool,
    /// Images that were made of it.
    pub(crate) children: usize,
    pub(crate) layers: Vec<String>,
}

/// What is to go, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub image_ids: Vec<String>,
    /// What of the excess stays in spite of it.
    pub missing_bytes: u64,
    /// What holds most of the rest, largest first: names of images with what they have for themselves and why they stay.
    pub holders: Vec<(String, u64, &'static str)>,
}

/// More of them would not help whoever reads it.
const HOLDERS_MAX: usize = 5;

impl Holdings {
    /// Chooses images worth `excess_bytes`. `used` are the images that containers have, `spared` those that were just asked
    /// for.
    pub(crate) fn choose(&self, excess_bytes: u64, used: &HashSet<String>, spared: &HashSet<String>) -> Choice {
        let reason = |c: &Candidate| -> Option<&'static str> {
            let reasons = [
                (c.is_pinned, "pinned"),
                (used.contains(&c.id), "used by a container"),
                (spared.contains(&c.id), "just brought in"),
            ];
            reasons.into_iter().find(|(holds, _)| *holds).map(|(_, why)| why)
        };
        let mut chosen = self.oldest(excess_bytes, |c| reason(c).is_none());
        self.give_back(&mut chosen);
        let freed = self.freed(&chosen);
        let missing_bytes = excess_bytes.saturating_sub(freed);
        let holders = if missing_bytes > 0 { self.holders(&chosen, reason) } else { Vec::new() };
        let image_ids = chosen.into_iter().map(|c| c.id.clone()).collect();
        Choice { image_ids, missing_bytes, holders }
    }

    /// Takes the oldest that may go, one after the other, until enough is free. One that others were made of goes after
    /// those.
    fn oldest(&self, excess_bytes: u64, may_go: impl Fn(&Candidate) -> bool) -> Vec<&Candidate> {
        let mut left: Vec<&Candidate> = self.candidates.iter().filter(|c| may_go(c)).collect();
        left.sort_by(|a, b| a.used_ns.cmp(&b.used_ns).then_with(|| a.id.cmp(&b.id)));
        let mut children: HashMap<&str, usize> = left.iter().map(|c| (c.id.as_str(), c.children)).collect();
        let mut tally = Tally::new(self);
        let mut chosen: Vec<&Candidate> = Vec::new();
        while tally.freed < excess_bytes {
            let is_free = |c: &&Candidate| children.get(c.id.as_str()).is_none_or(|count| *count == 0);
            let Some(at) = left.iter().position(is_free) else { break };
            let next = left.remove(at);
            if let Some(count) = next.parent.as_deref().and_then(|parent| children.get_mut(parent)) {
                *count = count.saturating_sub(1);
            }
            tally.remove(next);
            chosen.push(next);
        }
        chosen
    }

    /// Keeps those whose going frees nothing: all that they have others have too.
    fn give_back(&self, chosen: &mut Vec<&Candidate>) {
        let wanted = self.freed(chosen);
        for at in (0..chosen.len()).rev() {
            let candidate = chosen[at];
            let is_parent = chosen.iter().any(|c| c.parent.as_deref() == Some(candidate.id.as_str()));
            let holds_parent = candidate.parent.as_deref().is_some_and(|id| chosen.iter().any(|c| c.id == id));
            if is_parent || holds_parent {
                continue;
            }
            let without: Vec<&Candidate> = chosen.iter().filter(|c| c.id != candidate.id).copied().collect();
            if self.freed(&without) >= wanted {
                *chosen = without;
            }
        }
    }

    fn freed(&self, images: &[&Candidate]) -> u64 {
        let mut tally = Tally::new(self);
        images.iter().for_each(|candidate| tally.remove(candidate));
        tally.freed
    }

    fn holders(
        &self,
        chosen: &[&Candidate],
        reason: impl Fn(&Candidate) -> Option<&'static str>,
    ) -> Vec<(String, u64, &'static str)> {
        let stays = self.candidates.iter().filter(|c| !chosen.iter().any(|gone| gone.id == c.id));
        let mut holders: Vec<_> = stays
            .map(|c| {
                let own: HashSet<&String> = c.layers.iter().collect();
                let bytes: u64 = own.into_iter().filter_map(|id| self.layers.get(id)).map(|(bytes, _)| bytes).sum();
                (c.name.clone(), bytes, reason(c).unwrap_or("other images were made of it"))
            })
            .collect();
        holders.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        holders.truncate(HOLDERS_MAX);
        holders
    }
}

/// Counts what removals free: a layer goes with the last that needs it.
struct Tally<'a> {
    holdings: &'a Holdings,
    gone: HashMap<&'a str, usize>,
    freed: u64,
}

impl<'a> Tally<'a> {
    fn new(holdings: &'a Holdings) -> Tally<'a> {
        Tally { holdings, gone: HashMap::new(), freed: 0 }
    }

    fn remove(&mut self, image: &'a Candidate) {
        for layer in &image.layers {
            let Some((bytes, users)) = self.holdings.layers.get(layer) else { continue };
            let gone = self.gone.entry(layer).or_default();
            *gone += 1;
            if gone == users {
                self.freed = self.freed.saturating_add(*bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images with when they were used and what they are of; a layer's bytes are its number.
    fn holdings(images: &[(&str, i64, &[u64])]) -> Holdings {
        let mut found = Holdings::default();
        for (id, used_ns, layers) in images {
            let layers: Vec<String> = layers.iter().map(u64::to_string).collect();
            for layer in &layers {
                found.layers.entry(layer.clone()).or_insert((layer.parse().unwrap(), 0)).1 += 1;
            }
            let (id, name) = ((*id).to_owned(), (*id).to_owned());
            found.candidates.push(Candidate { id, name, used_ns: *used_ns, layers, ..Candidate::default() });
        }
        found
    }

    fn set(ids: &[&str]) -> HashSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn the_longest_unused_go_until_enough_is_free() {
        let found = holdings(&[("new", 30, &[100]), ("old", 10, &[101]), ("middle", 20, &[102])]);
        let none = set(&[]);
        assert_eq!(found.choose(0, &none, &none).image_ids, [""; 0]);
        assert_eq!(found.choose(1, &none, &none).image_ids, ["old"]);
        assert_eq!(found.choose(102, &none, &none).image_ids, ["old", "middle"]);
    }

    #[test]
    fn a_shared_layer_is_free_when_the_last_that_has_it_is_gone() {
        let found = holdings(&[("a", 1, &[1000, 1]), ("b", 2, &[1000, 2]), ("c", 3, &[50])]);
        let none = set(&[]);
        assert_eq!(found.choose(500, &none, &none).image_ids, ["a", "b"]);
        assert_eq!(
            found.choose(1003, &none, &none),
            Choice { image_ids: vec!["a".into(), "b".into()], ..Choice::default() }
        );
        // A container holds what b is of: nothing but its own layer would come free.
        let choice = found.choose(500, &set(&["b"]), &none);
        assert_eq!((choice.image_ids, choice.missing_bytes), (vec!["a".to_owned(), "c".to_owned()], 449));
        // The same layer twice in one image is one.
        let twice = holdings(&[("a", 1, &[70, 70]), ("b", 2, &[1])]);
        assert_eq!(twice.choose(70, &none, &none).image_ids, ["a"]);
    }

    #[test]
    fn an_image_whose_going_frees_nothing_stays() {
        let found = holdings(&[("tag", 1, &[9]), ("kept", 5, &[9]), ("big", 2, &[300])]);
        assert_eq!(found.choose(200, &set(&["kept"]), &set(&[])).image_ids, ["big"]);
    }

    #[test]
    fn what_is_pinned_used_or_just_came_stays_and_is_named() {
        let mut found = holdings(&[("pinned", 1, &[7]), ("used", 2, &[8]), ("fresh", 3, &[9]), ("free", 4, &[1])]);
        found.candidates[0].is_pinned = true;
        let choice = found.choose(20, &set(&["used"]), &set(&["fresh"]));
        assert_eq!((choice.image_ids, choice.missing_bytes), (vec!["free".to_owned()], 19));
        let holders: Vec<_> = choice.holders.iter().map(|(name, bytes, why)| (name.as_str(), *bytes, *why)).collect();
        let expected = [("fresh", 9, "just brought in"), ("used", 8, "used by a container"), ("pinned", 7, "pinned")];
        assert_eq!(holders, expected);
    }

    #[test]
    fn an_image_goes_after_those_that_were_made_of_it() {
        let mut found = holdings(&[("base", 1, &[10]), ("child", 5, &[10, 3]), ("other", 7, &[20])]);
        found.candidates[0].children = 1;
        found.candidates[1].parent = Some("base".to_owned());
        let none = set(&[]);
        assert_eq!(found.choose(13, &none, &none).image_ids, ["child", "base"]);
        assert_eq!(found.choose(13, &set(&["child"]), &none).image_ids, ["other"]);
    }
}
