//! A bridge's nftables table: masquerading to the outside, and who may reach the containers.
//!
//! ```text
//! table ip seacow {
//!   chain forward {                                  # type filter hook forward priority 0; policy accept
//!     oifname "seacow0" ct state established,related accept
//!     iifname "seacow0" accept
//!     oifname "seacow0" ct status dnat accept        # published ports, when there are any
//!     oifname "seacow0" drop                         # nobody else starts a connection to a container
//!   }
//!   chain postrouting {                              # type nat hook postrouting priority 100; policy accept
//!     ip saddr 172.17.0.0/16 oifname != "seacow0" masquerade
//!   }
//! }
//! ```
//!
//! One table per bridge: each is replaced in one transaction without knowing of the others, and
//! two bridges are isolated from each other because each refuses what it did not ask for. An
//! `accept` here ends only this table's chain: a drop in somebody else's table still wins, which
//! is what [`crate::diagnose`] looks for.

use ipnet::Ipv4Net;
use seacow_spec::error::{Classified, ErrorClass};
use seacow_sys::Errno;
use seacow_sys::netlink;

use crate::nft::{ChainKind, CtState, Expr, Family, Hook, Interface, Transaction, Verdict};

/// The firewall could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum NatError {
    /// Replacing.
    #[error("replace nftables table ip {table}")]
    Apply {
        /// The table.
        table: String,
        /// The kernel's answer.
        source: netlink::Error,
    },
    /// Removing.
    #[error("remove nftables table ip {table}")]
    Remove {
        /// The table.
        table: String,
        /// The kernel's answer.
        source: netlink::Error,
    },
}

impl Classified for NatError {
    fn class(&self) -> ErrorClass {
        let (Self::Apply { source, .. } | Self::Remove { source, .. }) = self;
        match source.errno() {
            Some(Errno::PERM | Errno::ACCESS) => ErrorClass::Forbidden,
            // A kernel without nf_tables, or without one of its expressions.
            Some(Errno::PROTONOSUPPORT | Errno::OPNOTSUPP | Errno::NOENT) => ErrorClass::Unavailable,
            _ => ErrorClass::Internal,
        }
    }
}

/// What a bridge's table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The table's name.
    pub table: String,
    /// The bridge.
    pub bridge: String,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Whether containers' packets leave with the host's address.
    pub masquerade: bool,
}

impl Rules {
    /// Makes the table exactly so, whatever was in it, in one transaction.
    pub fn apply(&self) -> Result<(), NatError> {
        let table = &self.table;
        let mut transaction = Transaction::new(Family::Ip);
        // Adding first makes the deletion succeed when the table is new.
        transaction.add_table(table);
        transaction.delete_table(table);
        transaction.add_table(table);
        self.forward(&mut transaction);
        if self.masquerade {
            self.postrouting(&mut transaction);
        }
        transaction.commit().map_err(|source| NatError::Apply { table: table.clone(), source })
    }

    fn forward(&self, transaction: &mut Transaction) {
        const CHAIN: &str = "forward";
        transaction.add_chain(&self.table, CHAIN, ChainKind::Filter, Hook::Forward);
        let from = || Expr::Name(Interface::In, true, self.bridge.clone());
        let to = || Expr::Name(Interface::Out, true, self.bridge.clone());
        let accept = || Expr::Verdict(Verdict::Accept);
        let rules = [
            ("answers to containers", vec![to(), Expr::Ct(CtState::Answer), accept()]),
            ("from containers", vec![from(), accept()]),
            ("published ports", vec![to(), Expr::Ct(CtState::DestinationTranslated), accept()]),
            ("unasked", vec![to(), Expr::Verdict(Verdict::Drop)]),
        ];
        for (comment, rule) in rules {
            transaction.add_rule(&self.table, CHAIN, comment, &rule);
        }
    }

    fn postrouting(&self, transaction: &mut Transaction) {
        const CHAIN: &str = "postrouting";
        transaction.add_chain(&self.table, CHAIN, ChainKind::SourceNat, Hook::Postrouting);
        let outside = Expr::Name(Interface::Out, false, self.bridge.clone());
        let rule = [Expr::Source(self.subnet), outside, Expr::Masquerade];
        transaction.add_rule(&self.table, CHAIN, "containers to the outside", &rule);
    }
}

/// Removes a table completely; one that is not there is no error.
pub fn remove(table: &str) -> Result<(), NatError> {
    crate::nft::delete_table(Family::Ip, table)
        .map_err(|source| NatError::Remove { table: table.to_owned(), source })
}
