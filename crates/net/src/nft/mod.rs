//! nftables without libnftables and without the `nft` program: transactions written and lists
//! read over netlink.
//!
//! A [`Transaction`] is one batch between BEGIN and END: the kernel takes all of it or nothing.
//! Shapes and numbers are those of the kernel's `nf_tables.h` (the uapi header is the only
//! specification there is); attribute numbers are shared by requests and lists.

mod expr;
mod read;
mod set;

pub use expr::{CtState, Expr, Interface, Verdict};
pub use read::{BaseChain, Chain, Ending, chain_ending, chains};
pub use set::{Element, MapKind};

use seacow_sys::Errno;
use seacow_sys::netlink::{self, Batch, Listener, Payload, Protocol, Socket};

/// `NFNLGRP_NFTABLES`: every change of the rule set.
const CHANGES: u32 = 7;

/// Hears of every change of this network namespace's nftables rules, those of `iptables-nft` included,
/// ours and others'.
///
/// # Errors
/// The kernel has no nftables.
pub fn changes() -> Result<Listener, netlink::Error> {
    Listener::open(Protocol::Netfilter, CHANGES)
}

/// Address families of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6 together.
    Inet,
    /// IPv4.
    Ip,
    /// Any other; its number.
    Other(u8),
}

impl Family {
    /// nfproto number.
    pub fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Other(number) => number,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            1 => Self::Inet,
            2 => Self::Ip,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inet => f.write_str("inet"),
            Self::Ip => f.write_str("ip"),
            Self::Other(number) => write!(f, "family {number}"),
        }
    }
}

/// Where a base chain sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Just come, before it is known where to.
    Prerouting,
    /// Routed through this host.
    Forward,
    /// Made by this host.
    Output,
    /// About to leave.
    Postrouting,
}

impl Hook {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// What a base chain is for, with the priority that nft has a word for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// `type filter`, priority raw (-300): before connections are looked up.
    Raw,
    /// `type filter`, priority filter (0).
    Filter,
    /// `type nat`, priority dstnat (-100).
    DestinationNat,
    /// `type nat`, priority srcnat (100).
    SourceNat,
}

impl ChainKind {
    fn name_and_priority(self) -> (&'static str, i32) {
        match self {
            Self::Raw => ("filter", -300),
            Self::Filter => ("filter", 0),
            Self::DestinationNat => ("nat", -100),
            Self::SourceNat => ("nat", 100),
        }
    }
}

mod nl {
    pub(super) const SUBSYS: u16 = 10 << 8;
    pub(super) const BATCH_BEGIN: u16 = 16;
    pub(super) const BATCH_END: u16 = 17;
    pub(super) const NEWTABLE: u16 = 0;
    pub(super) const DELTABLE: u16 = 2;
    pub(super) const NEWCHAIN: u16 = 3;
    pub(super) const GETCHAIN: u16 = 4;
    pub(super) const DELCHAIN: u16 = 5;
    pub(super) const NEWRULE: u16 = 6;
    pub(super) const GETRULE: u16 = 7;
    pub(super) const DELRULE: u16 = 8;
    pub(super) const NEWSET: u16 = 9;
    pub(super) const NEWSETELEM: u16 = 12;
    pub(super) const DELSETELEM: u16 = 14;
    pub(super) const F_CREATE: u16 = 0x400;
    pub(super) const F_APPEND: u16 = 0x800;

    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUM: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const RULE_USERDATA: u16 = 7;
    pub(super) const LIST_ELEM: u16 = 1;
    pub(super) const SET_TABLE: u16 = 1;
    pub(super) const SET_NAME: u16 = 2;
    pub(super) const SET_FLAGS: u16 = 3;
    pub(super) const SET_KEY_TYPE: u16 = 4;
    pub(super) const SET_KEY_LEN: u16 = 5;
    pub(super) const SET_DATA_TYPE: u16 = 6;
    pub(super) const SET_DATA_LEN: u16 = 7;
    pub(super) const SET_ID: u16 = 10;
    pub(super) const SET_USERDATA: u16 = 13;
    pub(super) const ELEMENTS_TABLE: u16 = 1;
    pub(super) const ELEMENTS_SET: u16 = 2;
    pub(super) const ELEMENTS_LIST: u16 = 3;
    pub(super) const ELEMENT_KEY: u16 = 1;
    pub(super) const ELEMENT_DATA: u16 = 2;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
    pub(super) const VERDICT_CHAIN: u16 = 2;

    pub(super) const NF_DROP: u32 = 0;
    pub(super) const NF_ACCEPT: u32 = 1;
    pub(super) const NFT_JUMP: i32 = -3;
}

/// nfgenmsg: family, version 0, resource id in network order.
fn header(m: &mut Payload<'_>, family: u8, resource: u16) {
    let [high, low] = resource.to_be_bytes();
    m.header(&[family, 0, high, low]);
}

/// Changes that the kernel makes all or not at all.
#[derive(Debug)]
pub struct Transaction {
    batch: Batch,
    family: Family,
    /// How many maps were added: each needs a number of its own here.
    sets: u32,
}

impl Transaction {
    /// An empty one for tables of this family.
    pub fn new(family: Family) -> Self {
        let mut batch = Batch::new();
        batch.message("begin nftables transaction", nl::BATCH_BEGIN, 0, |m| {
            header(m, 0, nl::SUBSYS >> 8);
        });
        Self { batch, family, sets: 0 }
    }

    fn add(&mut self, step: String, kind: u16, flags: u16, fill: impl FnOnce(&mut Payload<'_>)) {
        let family = self.family.number();
        self.batch.request(step, nl::SUBSYS | kind, flags, |m| {
            header(m, family, 0);
            fill(m);
        });
    }

    /// Adds a table; one that exists stays as it is.
    pub fn add_table(&mut self, table: &str) {
        self.add(format!("add nftables table {table}"), nl::NEWTABLE, nl::F_CREATE, |m| {
            m.attr_text(nl::TABLE_NAME, table);
        });
    }

    /// Deletes a table with all it holds.
    pub fn delete_table(&mut self, table: &str) {
        self.add(format!("delete nftables table {table}"), nl::DELTABLE, 0, |m| {
            m.attr_text(nl::TABLE_NAME, table);
        });
    }

    /// Adds a base chain with policy accept.
    pub fn add_chain(&mut self, table: &str, chain: &str, kind: ChainKind, hook: Hook) {
        self.add(format!("add nftables chain {table} {chain}"), nl::NEWCHAIN, nl::F_CREATE, |m| {
            let (kind, priority) = kind.name_and_priority();
            m.attr_text(nl::CHAIN_TABLE, table).attr_text(nl::CHAIN_NAME, chain);
            m.nested(nl::CHAIN_HOOK, |m| {
                m.attr_be32(nl::HOOK_NUM, hook.number())
                    .attr_be32(nl::HOOK_PRIORITY, priority.cast_unsigned());
            });
            m.attr_be32(nl::CHAIN_POLICY, nl::NF_ACCEPT).attr_text(nl::CHAIN_TYPE, kind);
        });
    }

    /// Adds a chain that others jump to; one that exists keeps its rules.
    pub fn add_jump_chain(&mut self, table: &str, chain: &str) {
        self.add(format!("add nftables chain {table} {chain}"), nl::NEWCHAIN, nl::F_CREATE, |m| {
            m.attr_text(nl::CHAIN_TABLE, table).attr_text(nl::CHAIN_NAME, chain);
        });
    }

    /// Deletes a chain with its rules; nothing may jump to it any more.
    pub fn delete_chain(&mut self, table: &str, chain: &str) {
        self.add(format!("delete nftables chain {table} {chain}"), nl::DELCHAIN, 0, |m| {
            m.attr_text(nl::CHAIN_TABLE, table).attr_text(nl::CHAIN_NAME, chain);
        });
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, table: &str, chain: &str) {
        self.add(format!("empty nftables chain {table} {chain}"), nl::DELRULE, 0, |m| {
            m.attr_text(nl::RULE_TABLE, table).attr_text(nl::RULE_CHAIN, chain);
        });
    }

    /// Appends a rule; `comment` is what `nft list` shows behind it.
    pub fn add_rule(&mut self, table: &str, chain: &str, comment: &str, rule: &[Expr]) {
        let step = format!("add nftables rule {table} {chain} ({comment})");
        self.add(step, nl::NEWRULE, nl::F_CREATE | nl::F_APPEND, |m| {
            m.attr_text(nl::RULE_TABLE, table).attr_text(nl::RULE_CHAIN, chain);
            m.nested(nl::RULE_EXPRESSIONS, |m| {
                for part in rule {
                    part.write(m);
                }
            });
            m.attr(nl::RULE_USERDATA, &comment_data(comment));
        });
    }

    /// Sends it. A refusal costs the kernel's clean-up, 8 to 16 ms: do not use one as a question.
    pub fn commit(mut self) -> Result<(), netlink::Error> {
        self.batch.message("end nftables transaction", nl::BATCH_END, 0, |m| {
            header(m, 0, nl::SUBSYS >> 8);
        });
        Socket::open(Protocol::Netfilter)?.transact(&self.batch).map(drop)
    }
}

/// Deletes a table of this family; one that is not there is no error.
pub fn delete_table(family: Family, table: &str) -> Result<(), netlink::Error> {
    let mut transaction = Transaction::new(family);
    transaction.delete_table(table);
    match transaction.commit() {
        Err(error) if error.errno() != Some(Errno::NOENT) => Err(error),
        _ => Ok(()),
    }
}

/// A comment as `nft` stores it: type 0, length, text with its zero.
fn comment_data(comment: &str) -> Vec<u8> {
    const MAX: usize = 120;
    let text: Vec<u8> = comment.bytes().take(MAX).chain([0]).collect();
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [0, len].into_iter().chain(text).collect()
}
