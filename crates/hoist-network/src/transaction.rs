//! Messages to nf_tables (linux/netfilter/nfnetlink.h), and the batches in which it takes changes.

use crate::message::{Attributes, Batch, flag};

/// NFNL_SUBSYS_NFTABLES
pub(crate) const SUBSYSTEM: u16 = 10;
const NFNL_BATCH_BEGIN: u16 = 0x10;
const NFNL_BATCH_END: u16 = 0x11;

pub(crate) const NFPROTO_INET: u8 = 1;
pub(crate) const NFPROTO_IPV4: u8 = 2;
pub(crate) const NFGENMSG_BYTES: usize = 4;

/// `struct nfgenmsg`
pub(crate) fn header(family: u8) -> [u8; NFGENMSG_BYTES] {
    [family, 0, 0, 0]
}

/// Messages that take effect together or not at all.
#[derive(Debug)]
pub(crate) struct Transaction {
    batch: Batch,
    messages: Vec<Message>,
}

/// A message that waits for its flags: only the last one is acknowledged.
type Message = (u16, u16, u8, Vec<u8>);

impl Transaction {
    pub(crate) fn new() -> Transaction {
        Transaction { batch: Batch::new(), messages: Vec::new() }
    }

    pub(crate) fn add(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.add_for(NFPROTO_INET, kind, flags, fill);
    }

    pub(crate) fn add_for(&mut self, family: u8, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.messages.push((kind, flags, family, Attributes::collect(fill)));
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let subsystem = [0, 0, 0, SUBSYSTEM.to_be_bytes()[1]];
        self.batch.add(NFNL_BATCH_BEGIN, 0, &subsystem, |_| {});
        let last = self.messages.len().saturating_sub(1);
        for (index, (kind, flags, family, attributes)) in self.messages.iter().enumerate() {
            let flags = flags | if index == last { flag::ACK } else { 0 };
            self.batch.add(*kind, flags, &header(*family), |a| a.raw(attributes));
        }
        self.batch.add(NFNL_BATCH_END, 0, &subsystem, |_| {});
        self.batch.into_bytes()
    }
}
