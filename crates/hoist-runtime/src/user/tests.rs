//! Cases from runc's and Docker's behaviour, and hostile files.

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nadm:x:42:43:Adm:/var/adm:/bin/false\n\n111:x:222:333::/odd:\nbroken\nbig:x:99999999999:1::/:\n";
const GROUP: &str = "root:x:0:root\nadm:x:43:\ngrp:x:1234:root,adm,x\naaaa:x:77:adm\n444:x:555:\n";

fn resolve_in(user: &str, additional: &[&str]) -> Result<User, Error> {
    let additional: Vec<String> = additional.iter().map(|name| (*name).to_owned()).collect();
    resolve(PASSWD.as_bytes(), GROUP.as_bytes(), user, &additional)
}

fn ids(user: &str) -> (u32, u32, Vec<u32>) {
    let user = resolve_in(user, &[]).unwrap();
    (user.uid, user.gid, user.additional_gids)
}

#[test]
fn names_numbers_and_groups_resolve_as_in_runc() {
    assert_eq!(ids(""), (0, 0, vec![0, 1234]));
    assert_eq!(ids("root"), (0, 0, vec![0, 1234]));
    assert_eq!(ids("adm"), (42, 43, vec![43, 1234, 77]));
    assert_eq!(ids("42"), (42, 43, vec![43, 1234, 77]));
    assert_eq!(ids("adm:grp"), (42, 1234, vec![1234]));
    assert_eq!(ids("1000:1001"), (1000, 1001, vec![1001]));
    assert_eq!(ids("1000"), (1000, 0, vec![0]));
    assert_eq!(ids("111"), (222, 333, vec![333]));
    assert_eq!(ids("adm:444"), (42, 555, vec![555]));
    assert_eq!(ids(":adm"), (0, 43, vec![43]));
}

#[test]
fn additional_groups_join_the_others() {
    assert_eq!(resolve_in("adm", &["root", "99", "grp"]).unwrap().additional_gids, [43, 1234, 77, 0, 99]);
    let error = resolve_in("adm", &["nope"]).unwrap_err();
    assert_eq!(error.to_string(), "unable to find group nope: no matching entries in group file");
}

#[test]
fn numbers_out_of_range_are_refused_and_never_taken_as_names() {
    for user in ["-1", "4294967295", "4294967296", "2147483648", "99999999999999999999999", "0:-5", "0:4294967296"] {
        assert!(matches!(resolve_in(user, &[]), Err(Error::Range)), "{user}");
    }
    assert!(matches!(resolve_in("nobody-here", &[]), Err(Error::NoSuchUser(_))));
    assert!(matches!(resolve_in("big", &[]), Err(Error::Range)));
}

#[test]
fn an_endless_file_is_refused_within_bounds() {
    let error = resolve(std::io::repeat(b'a'), std::io::empty(), "root", &[]).unwrap_err();
    assert!(matches!(error, Error::TooLarge("passwd")));
}
