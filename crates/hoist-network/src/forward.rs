//! Other people's firewalls: where iptables, ufw, firewalld or Docker drop what is forwarded by default, rules of ours
//! accept what goes to and from our bridge. Only there: what may pass is decided in our own table (`nft`), which every
//! packet passes as well.

use std::io;

use hoist_sys::netlink::Socket;
use rustix::io::Errno;

use crate::Error;
use crate::expression::{Compare, Rule, Verdict};
use crate::message::{Attributes, Batch, Parsed, flag, split};
use crate::nft::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, EXPR_DATA, EXPR_NAME, GETCHAIN, GETRULE, HOOK_FORWARD,
    HOOK_NUMBER, NEWRULE, RULE_CHAIN, RULE_EXPRESSIONS, RULE_TABLE, RULE_USERDATA,
};
use crate::transaction::{NFGENMSG_BYTES, NFPROTO_INET, NFPROTO_IPV4, Transaction, header};

const DELRULE: u16 = NEWRULE + 2;
const RULE_HANDLE: u16 = 3;
const RULE_POSITION: u16 = 6;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const POLICY_DROP: u32 = 0;
const VERDICT_RETURN: u32 = 5u32.wrapping_neg();
/// In and out.
const RULES: usize = 2;
/// nft(8)'s tag of a comment in a rule's user data.
const COMMENT: u8 = 0;
const COMMENT_WORD: &str = "hoist ";
const DOCKER_USER: &str = "DOCKER-USER";

/// A chain of somebody else's.
#[derive(Clone, Debug)]
struct Chain {
    family: u8,
    table: String,
    name: String,
    /// Packets to or from our bridge come by and may be dropped.
    concerns_us: bool,
}

impl Chain {
    /// The chain in `ip filter` that Docker leaves to its users, and jumps to before its own.
    fn is_docker_user(&self) -> bool {
        (self.family, self.table.as_str(), self.name.as_str()) == (NFPROTO_IPV4, "filter", DOCKER_USER)
    }

    fn is_iptables_forward(&self) -> bool {
        (self.family, self.table.as_str(), self.name.as_str()) == (NFPROTO_IPV4, "filter", "FORWARD")
    }
}

/// A rule as far as it concerns us.
#[derive(Debug)]
struct Present {
    handle: u64,
    /// The bridge for which an engine put it there.
    bridge: Option<String>,
    /// Returns whatever comes: Docker of old ended its chain for users so.
    returns: bool,
}

/// Puts our two rules into every chain that needs them. Chains that refuse are told of after all were tried.
pub(crate) fn ensure(socket: &Socket, bridge: &str) -> Result<(), Error> {
    let all = chains(socket)?;
    let docker_user = all.iter().find(|chain| chain.is_docker_user());
    let wanted = all.iter().filter(|chain| chain.concerns_us).map(|chain| match docker_user {
        Some(docker_user) if chain.is_iptables_forward() => docker_user.clone(),
        _ => chain.clone(),
    });
    each(wanted, |chain| {
        let rules = rules(socket, chain)?;
        let ours = |rule: &Present| rule.bridge.as_deref() == Some(bridge);
        if rules.iter().filter(|rule| ours(rule)).count() == RULES {
            return Ok(());
        }
        // Docker's users write their own rules into that chain: those come first.
        let end = rules.iter().find(|rule| rule.returns).map(|rule| rule.handle);
        let position = match end {
            _ if !chain.is_docker_user() => Position::First,
            Some(handle) => Position::Before(handle),
            None => Position::Last,
        };
        let mut transaction = Transaction::new();
        delete(&mut transaction, chain, rules.iter().filter(|rule| ours(rule)));
        add(&mut transaction, chain, bridge, position);
        socket.send_batch(&transaction.finish())
    })
}

/// Whether the old ip_tables filter (not the nf_tables one) is in use: what it drops we can neither see nor change.
pub(crate) fn legacy_tables_filter() -> bool {
    std::fs::read_to_string("/proc/net/ip_tables_names").is_ok_and(|names| names.lines().any(|name| name == "filter"))
}

/// Takes the rules for a bridge out of every chain.
pub(crate) fn remove(socket: &Socket, bridge: &str) -> Result<(), Error> {
    remove_all(socket, |of| of == bridge)
}

/// Takes out what engines left that are gone with their bridges.
pub(crate) fn remove_orphans(socket: &Socket, is_device: impl Fn(&str) -> bool) -> Result<(), Error> {
    remove_all(socket, |of| !is_device(of))
}

fn remove_all(socket: &Socket, condemned: impl Fn(&str) -> bool) -> Result<(), Error> {
    let all = chains(socket)?.into_iter();
    each(all.filter(|chain| chain.concerns_us || chain.is_docker_user()), |chain| {
        let rules = rules(socket, chain)?;
        let condemned: Vec<&Present> =
            rules.iter().filter(|rule| rule.bridge.as_deref().is_some_and(&condemned)).collect();
        if condemned.is_empty() {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        delete(&mut transaction, chain, condemned.into_iter());
        socket.send_batch(&transaction.finish())
    })
}

fn each(chains: impl Iterator<Item = Chain>, act: impl Fn(&Chain) -> io::Result<()>) -> Result<(), Error> {
    let mut first = None;
    for chain in chains {
        match act(&chain) {
            Ok(()) => {}
            // The chain was removed meanwhile.
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            Err(error) => first = first.or(Some(format!("chain {} of table {}: {error}", chain.name, chain.table))),
        }
    }
    first.map_or(Ok(()), |text| Err(Error::Other(text)))
}

fn chains(socket: &Socket) -> Result<Vec<Chain>, Error> {
    let mut request = Batch::new();
    request.add(GETCHAIN, flag::DUMP, &header(0), |_| {});
    let answers = socket
        .request_dump(request.as_bytes())
        .map_err(|error| Error::Other(format!("list the chains of nf_tables: {error}")))?;
    Ok(answers.iter().filter_map(|answer| chain(answer)).collect())
}

fn chain(answer: &[u8]) -> Option<Chain> {
    let (header, attributes) = split(answer, NFGENMSG_BYTES)?;
    let (table, name) = (attributes.text(CHAIN_TABLE)?.to_owned(), attributes.text(CHAIN_NAME)?.to_owned());
    let mut chain = Chain { family: header[0], table, name, concerns_us: false };
    let forwards = attributes.nested(CHAIN_HOOK).and_then(|hook| hook.be32(HOOK_NUMBER)) == Some(HOOK_FORWARD);
    // Rules at the end of a chain may drop as well as its policy.
    let may_drop = attributes.be32(CHAIN_POLICY) == Some(POLICY_DROP)
        || chain.is_iptables_forward()
        || (chain.table == "firewalld" && chain.name == "filter_FORWARD");
    chain.concerns_us = matches!(chain.family, NFPROTO_INET | NFPROTO_IPV4) && forwards && may_drop;
    Some(chain)
}

fn rules(socket: &Socket, chain: &Chain) -> io::Result<Vec<Present>> {
    let mut request = Batch::new();
    request.add(GETRULE, flag::DUMP, &header(chain.family), |a| {
        a.text(RULE_TABLE, &chain.table);
        a.text(RULE_CHAIN, &chain.name);
    });
    let answers = socket.request_dump(request.as_bytes())?;
    Ok(answers.iter().filter_map(|answer| present(answer)).collect())
}

fn present(answer: &[u8]) -> Option<Present> {
    let (_, attributes) = split(answer, NFGENMSG_BYTES)?;
    let handle = u64::from_be_bytes(attributes.get(RULE_HANDLE)?.try_into().ok()?);
    let bridge = attributes.get(RULE_USERDATA).and_then(bridge_of);
    let mut returns = false;
    for (_, expression) in attributes.nested(RULE_EXPRESSIONS).into_iter().flatten() {
        let expression = Parsed::new(expression);
        match expression.text(EXPR_NAME) {
            Some("counter") => {}
            Some("immediate") => returns = is_return(expression).unwrap_or(false),
            _ => return Some(Present { handle, bridge, returns: false }),
        }
    }
    Some(Present { handle, bridge, returns })
}

fn is_return(immediate: Parsed<'_>) -> Option<bool> {
    Some(
        immediate.nested(EXPR_DATA)?.nested(IMMEDIATE_DATA)?.nested(DATA_VERDICT)?.be32(VERDICT_CODE)?
            == VERDICT_RETURN,
    )
}

#[derive(Clone, Copy, Debug)]
enum Position {
    First,
    Before(u64),
    Last,
}

fn delete<'a>(transaction: &mut Transaction, chain: &Chain, rules: impl Iterator<Item = &'a Present>) {
    for rule in rules {
        transaction.add_for(chain.family, DELRULE, 0, |a| {
            name_chain(a, chain);
            a.put(RULE_HANDLE, &rule.handle.to_be_bytes());
        });
    }
}

fn add(transaction: &mut Transaction, chain: &Chain, bridge: &str, position: Position) {
    let flags = if matches!(position, Position::Last) { flag::CREATE | flag::APPEND } else { flag::CREATE };
    for outgoing in [false, true] {
        transaction.add_for(chain.family, NEWRULE, flags, |a| {
            name_chain(a, chain);
            a.nest(RULE_EXPRESSIONS, |a| {
                let mut rule = Rule(a);
                let device =
                    if outgoing { rule.iifname(Compare::Equal, bridge) } else { rule.oifname(Compare::Equal, bridge) };
                device.counter().verdict(Verdict::Accept);
            });
            if let Position::Before(handle) = position {
                a.put(RULE_POSITION, &handle.to_be_bytes());
            }
            a.put(RULE_USERDATA, &comment(bridge));
        });
    }
}

fn name_chain(attributes: &mut Attributes<'_>, chain: &Chain) {
    attributes.text(RULE_TABLE, &chain.table);
    attributes.text(RULE_CHAIN, &chain.name);
}

/// User data of our rules: a comment as nft(8) and iptables(8) show it.
fn comment(bridge: &str) -> Vec<u8> {
    let text = format!("{COMMENT_WORD}{bridge}\0");
    let mut data = vec![COMMENT, u8::try_from(text.len()).unwrap_or(u8::MAX)];
    data.extend(text.into_bytes());
    data
}

/// Reads what [`comment`] wrote.
fn bridge_of(data: &[u8]) -> Option<String> {
    let text = data.strip_prefix(&[COMMENT])?.get(1..)?.strip_suffix(&[0])?;
    std::str::from_utf8(text).ok()?.strip_prefix(COMMENT_WORD).map(str::to_owned)
}
