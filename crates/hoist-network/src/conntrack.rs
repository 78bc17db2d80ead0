//! Forgetting UDP flows in the kernel's connection tracking. NAT is decided by a flow's first packet, and a UDP client
//! that keeps sending keeps its flow: without this it would never see that a port was published, or go on sending to a
//! container that is gone. TCP notices by itself.

use std::io;
use std::net::Ipv4Addr;

use hoist_sys::netlink::Socket;
use rustix::io::Errno;

use crate::element::{Element, protocol_number};
use crate::message::{Attributes, Batch, Parsed, flag, split};
use crate::transaction::{NFGENMSG_BYTES, header};
use crate::{Error, Protocol};

const CT_GET: u16 = 1 << 8 | 1;
const CT_DELETE: u16 = 1 << 8 | 2;
const AF_INET: u8 = 2;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const FILTER: u16 = 25;
const FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
// What of a tuple the kernel compares (CTA_FILTER_F_* in net/netfilter/nf_internals.h).
const BY_IP_SRC: u32 = 1 << 0;
const BY_PROTO_NUM: u32 = 1 << 3;
const BY_DST_PORT: u32 = 1 << 5;

/// One direction of a flow.
#[derive(Clone, Copy, Debug)]
struct Tuple<'a> {
    bytes: &'a [u8],
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    destination_port: u16,
}

/// Forgets flows that came to these ports of the host before they led to their containers.
pub(crate) fn forget_unpublished(socket: &Socket, elements: &[Element]) -> Result<(), Error> {
    let udp = protocol_number(Protocol::Udp);
    for element in elements.iter().filter(|element| element.protocol == udp) {
        let ask = |a: &mut Attributes<'_>| {
            a.nest(TUPLE_ORIG, |a| {
                a.nest(TUPLE_PROTO, |a| {
                    a.u8(PROTO_NUM, udp);
                    a.put(PROTO_DST_PORT, &element.host_port.to_be_bytes());
                });
            });
            a.nest(FILTER, |a| {
                a.u32(FILTER_ORIG_FLAGS, BY_PROTO_NUM | BY_DST_PORT);
                a.u32(FILTER_REPLY_FLAGS, 0);
            });
        };
        forget(socket, ask, |orig, reply| {
            orig.protocol == udp
                && orig.destination_port == element.host_port
                && element.host_ip.is_none_or(|ip| orig.destination == ip)
                && reply.source == orig.destination
        })?;
    }
    Ok(())
}

/// Forgets flows that NAT leads to a container.
pub(crate) fn forget_container(socket: &Socket, container: Ipv4Addr) -> Result<(), Error> {
    let udp = protocol_number(Protocol::Udp);
    let ask = |a: &mut Attributes<'_>| {
        a.nest(TUPLE_REPLY, |a| {
            a.nest(TUPLE_IP, |a| {
                a.put(IP_V4_SRC, &container.octets());
                a.put(IP_V4_DST, &[0; 4]);
            });
            a.nest(TUPLE_PROTO, |a| a.u8(PROTO_NUM, udp));
        });
        a.nest(FILTER, |a| {
            a.u32(FILTER_ORIG_FLAGS, 0);
            a.u32(FILTER_REPLY_FLAGS, BY_IP_SRC | BY_PROTO_NUM);
        });
    };
    forget(socket, ask, |orig, reply| {
        orig.protocol == udp && reply.source == container && orig.destination != container
    })
}

/// Deletes the flows that `ask` selects in the kernel and `condemned` confirms: kernels before 5.8 select nothing.
fn forget(
    socket: &Socket,
    ask: impl FnOnce(&mut Attributes<'_>),
    condemned: impl Fn(&Tuple<'_>, &Tuple<'_>) -> bool,
) -> Result<(), Error> {
    let fail = |error: io::Error| Error::Other(format!("forget UDP flows: {error}"));
    let mut request = Batch::new();
    request.add(CT_GET, flag::DUMP, &header(AF_INET), ask);
    let answers = match socket.request_dump(request.as_bytes()) {
        Ok(answers) => answers,
        // A kernel without ctnetlink.
        Err(error)
            if [Errno::INVAL, Errno::OPNOTSUPP]
                .map(|e| e.raw_os_error())
                .contains(&error.raw_os_error().unwrap_or(0)) =>
        {
            return Ok(());
        }
        Err(error) => return Err(fail(error)),
    };
    for answer in &answers {
        let Some((_, attributes)) = split(answer, NFGENMSG_BYTES) else { continue };
        let flow = tuple(attributes, TUPLE_ORIG).zip(tuple(attributes, TUPLE_REPLY));
        let Some((orig, _)) = flow.filter(|(orig, reply)| condemned(orig, reply)) else { continue };
        let mut delete = Batch::new();
        delete.add(CT_DELETE, flag::ACK, &header(AF_INET), |a| a.put(TUPLE_ORIG | NESTED, orig.bytes));
        match socket.send_batch(delete.as_bytes()) {
            // It ended by itself.
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            other => other.map_err(fail)?,
        }
    }
    Ok(())
}

/// NLA_F_NESTED, for a nested attribute that is copied as it came.
const NESTED: u16 = 0x8000;

#[cfg(any(test, feature = "fuzzing"))]
/// Reads a flow as an answer of the kernel tells it, for the crate's fuzzing entry points.
pub(crate) fn read(answer: &[u8]) {
    let Some((_, attributes)) = split(answer, NFGENMSG_BYTES) else { return };
    let _ = (tuple(attributes, TUPLE_ORIG), tuple(attributes, TUPLE_REPLY));
}

fn tuple(attributes: Parsed<'_>, which: u16) -> Option<Tuple<'_>> {
    let bytes = attributes.get(which)?;
    let (ip, proto) = (Parsed::new(bytes).nested(TUPLE_IP)?, Parsed::new(bytes).nested(TUPLE_PROTO)?);
    let port = proto.get(PROTO_DST_PORT).and_then(|port| port.try_into().ok());
    Some(Tuple {
        bytes,
        source: ip.ipv4(IP_V4_SRC)?,
        destination: ip.ipv4(IP_V4_DST)?,
        protocol: *proto.get(PROTO_NUM)?.first()?,
        destination_port: port.map_or(0, u16::from_be_bytes),
    })
}
