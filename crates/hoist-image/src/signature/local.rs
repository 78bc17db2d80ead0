//! What a policy says about images that do not come from a registry: out of archives and tars, and those that are here
//! already. None of them brings signatures along. What a pull found to be signed stays known by its id, which is a digest of
//! all of it, and by the rule that it met.

use hoist_api::reference::Reference;

use super::policy::{Policy, Requirement};
use crate::Error;
use crate::records::Voucher;

/// Transports of containers/image, by what they stand for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// What `docker save` writes.
    DockerArchive,
    /// The tar of an OCI layout.
    OciArchive,
    /// A root filesystem that is imported.
    Tarball,
}

impl Source {
    pub(crate) const fn transport(self) -> &'static str {
        match self {
            Source::DockerArchive => "docker-archive",
            Source::OciArchive => "oci-archive",
            Source::Tarball => "tarball",
        }
    }
}

/// The transport of images that were made here.
pub(crate) const LOCAL: &str = "containers-storage";

/// Those whose rule for everything counts here.
pub(super) const TRANSPORTS: [&str; 4] =
    [Source::DockerArchive.transport(), Source::OciArchive.transport(), Source::Tarball.transport(), LOCAL];

impl Policy {
    /// Whether an image may come in from somewhere else than a registry: by the rule of that transport, else by the rules of
    /// its names, all of them, else by the default.
    pub(crate) fn admits_from(&self, source: Source, names: &[Reference], vouchers: &[Voucher]) -> Result<(), Error> {
        let transport = source.transport();
        let hint = format!("a rule for transport {transport:?} would let it in");
        if let Some(rule) = self.transport(transport) {
            let what = names.first().map_or_else(|| "without a name".to_owned(), Reference::familiar);
            return self.met(rule, vouchers).map_err(|why| self.refusal(&what, transport, &why));
        }
        if names.is_empty() {
            let met = self.met(self.default_rule(), vouchers);
            return met.map_err(|why| self.refusal("without a name", "default", &format!("{why}; {hint}")));
        }
        names.iter().try_for_each(|name| {
            let (scope, rule) = self.requirements(name);
            let met = self.met(rule, vouchers);
            met.map_err(|why| self.refusal(&name.familiar(), scope, &format!("{why}; {hint}")))
        })
    }

    /// Whether an image that is here may be used by one of these names. One that was made here is held against the rule for
    /// those, if there is one; where a pull found it to be signed since, its names may let it in too.
    pub(crate) fn admits_here(&self, names: &[Reference], made_here: bool, vouchers: &[Voucher]) -> Result<(), Error> {
        if let Some(rule) = self.transport(LOCAL).filter(|_| made_here) {
            match self.met(rule, vouchers) {
                Ok(()) => return Ok(()),
                Err(why) if vouchers.is_empty() => {
                    let what = names.first().map_or_else(|| "without a name".to_owned(), Reference::familiar);
                    return Err(self.refusal(&what, LOCAL, &why));
                }
                Err(_) => {}
            }
        }
        let hint = "pull it again, or give it a name whose rule it meets";
        let mut refused = None;
        for name in names {
            let (scope, rule) = self.requirements(name);
            match self.met(rule, vouchers) {
                Ok(()) => return Ok(()),
                Err(why) => {
                    let refusal = || self.refusal(&name.familiar(), scope, &format!("{why}: {hint}"));
                    refused = Some(refused.unwrap_or_else(refusal));
                }
            }
        }
        match refused {
            Some(refusal) => Err(refusal),
            None => {
                self.met(self.default_rule(), vouchers).map_err(|why| self.refusal("without a name", "default", &why))
            }
        }
    }

    fn met(&self, rule: &[Requirement], vouchers: &[Voucher]) -> Result<(), String> {
        rule.iter().try_for_each(|requirement| match requirement {
            Requirement::Accept => Ok(()),
            Requirement::Reject => Err("it is rejected".to_owned()),
            Requirement::Signed(signed) if self.is_vouched_for(&signed.digest, vouchers) => Ok(()),
            Requirement::Signed(_) => {
                Err("a signature is required, and no pull has found one that this rule takes".to_owned())
            }
        })
    }

    /// Whether a pull found the image to be signed as this rule wants it, under a name that is not rejected since.
    fn is_vouched_for(&self, digest: &str, vouchers: &[Voucher]) -> bool {
        vouchers.iter().filter(|voucher| voucher.rule == digest).any(|voucher| {
            let name = Reference::parse(&voucher.reference);
            name.is_ok_and(|name| !self.requirements(&name).1.contains(&Requirement::Reject))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const KEY: &str = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUNvd0JRWURLMlZ3QXlFQUdiOUVDV21FemY2RlFicnoxeWxzS2s5ajJRYVQ5\
        dDVDbVBSMkVkV09JOFE9Ci0tLS0tRU5EIFBVQkxJQyBLRVktLS0tLQo=";

    fn policy(text: &str) -> Policy {
        Policy::parse(text.replace('\'', "\"").as_bytes(), Path::new("/policy.json")).unwrap()
    }

    fn names(names: &[&str]) -> Vec<Reference> {
        names.iter().map(|name| Reference::parse(name).unwrap()).collect()
    }

    fn rule_of(policy: &Policy, name: &str) -> String {
        match policy.requirements(&Reference::parse(name).unwrap()).1 {
            [Requirement::Signed(signed)] => signed.digest.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn voucher(reference: &str, rule: &str) -> Voucher {
        Voucher { reference: reference.to_owned(), rule: rule.to_owned() }
    }

    #[test]
    fn an_archive_is_held_against_its_transport_or_else_against_each_name_in_it() {
        let accept = "[{'type':'insecureAcceptAnything'}]";
        let reject = "[{'type':'reject'}]";
        let strict = policy(&format!("{{'default':{reject},'transports':{{'docker':{{'r.io':{accept}}}}}}}"));
        let from = |policy: &Policy, list: &[&str]| policy.admits_from(Source::DockerArchive, &names(list), &[]);
        assert!(from(&strict, &["r.io/a:1"]).is_ok());
        assert!(from(&strict, &["r.io/a:1", "busybox:1"]).unwrap_err().to_string().contains("image busybox:1"));
        assert!(from(&strict, &[]).unwrap_err().to_string().contains("docker-archive"));
        let own = format!("{{'default':{reject},'transports':{{'docker-archive':{{'':{accept}}}}}}}");
        assert!(from(&policy(&own), &["busybox:1"]).is_ok() && from(&policy(&own), &[]).is_ok());
        assert!(policy(&own).admits_from(Source::OciArchive, &names(&["busybox:1"]), &[]).is_err());
        let closed = format!("{{'default':{accept},'transports':{{'tarball':{{'':{reject}}}}}}}");
        assert!(policy(&closed).admits_from(Source::Tarball, &names(&["x:1"]), &[]).is_err());
    }

    #[test]
    fn what_a_pull_found_signed_may_be_used_while_the_rule_is_the_same() {
        let signed = |identity: &str| {
            format!(
                "{{'default':[{{'type':'sigstoreSigned','keyData':'{KEY}','signedIdentity':{{'type':'{identity}'}}}}]}}"
            )
        };
        let policy_now = policy(&signed("matchRepository"));
        let rule = rule_of(&policy_now, "r.io/a:1");
        let known = [voucher("r.io/a:1", &rule)];
        assert!(policy_now.admits_here(&names(&["r.io/a:1"]), false, &known).is_ok());
        assert!(policy_now.admits_here(&names(&["alias:1"]), false, &known).is_ok());
        assert!(policy_now.admits_here(&[], false, &known).is_ok());
        assert!(policy_now.admits_here(&names(&["r.io/a:1"]), false, &[]).is_err());
        assert!(policy_now.admits_from(Source::DockerArchive, &names(&["r.io/a:1"]), &known).is_ok());
        assert_eq!(rule, rule_of(&policy(&signed("matchRepository")), "other:1"), "the same after a restart");
        let changed = policy(&signed("matchExact"));
        assert!(changed.admits_here(&names(&["r.io/a:1"]), false, &known).is_err());
        let rejecting = format!(
            "{},'transports':{{'docker':{{'r.io':[{{'type':'reject'}}]}}}}}}",
            signed("matchRepository").strip_suffix('}').unwrap()
        );
        assert!(policy(&rejecting).admits_here(&names(&["alias:1"]), false, &known).is_err());
    }

    #[test]
    fn what_was_made_here_has_a_rule_of_its_own() {
        let text = "{'default':[{'type':'reject'}],'transports':{'containers-storage':{'':[{'type':'insecureAcceptAnything'}]}}}";
        let open = policy(text);
        assert!(open.admits_here(&names(&["mine:1"]), true, &[]).is_ok());
        // Neither one that was pulled under a policy nor one that was here before there was one.
        assert!(open.admits_here(&names(&["mine:1"]), false, &[voucher("mine:1", "x")]).is_err());
        assert!(open.admits_here(&names(&["mine:1"]), false, &[]).is_err());
        let closed = format!(
            "{{'default':[{{'type':'sigstoreSigned','keyData':'{KEY}'}}],'transports':\
             {{'containers-storage':{{'':[{{'type':'reject'}}]}}}}}}"
        );
        let closed = policy(&closed);
        let signed = [voucher("mine:1", &rule_of(&closed, "mine:1"))];
        assert!(closed.admits_here(&names(&["mine:1"]), true, &[]).unwrap_err().to_string().contains(LOCAL));
        assert!(closed.admits_here(&names(&["mine:1"]), true, &signed).is_ok());
    }
}
