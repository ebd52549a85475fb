//! Reading other people's chains, as far as a diagnosis needs it.

use seacow_sys::netlink::{self, Attribute, Protocol, Socket, attributes};

use super::{Family, header, nl};

/// A chain of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its table's family.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is hooked in; `None` for chains that others jump to.
    pub base: Option<BaseChain>,
}

/// How a base chain is hooked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// nf_inet_hooks number; 2 is forward.
    pub hook: u32,
    /// Smaller runs first.
    pub priority: i32,
    /// `filter`, `nat`, `route`.
    pub kind: String,
    /// Whether packets that no rule took are dropped.
    pub drops: bool,
}

/// What the last rule of a chain does with every packet that reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing unconditional.
    Open,
    /// Drops or rejects all that is left.
    Refuses,
}

/// Chains of all families.
pub fn chains() -> Result<Vec<Chain>, netlink::Error> {
    dump("list nftables chains", nl::GETCHAIN, 0, &[], parse_chain)
}

/// Whether the last rule of the chain refuses everything.
pub fn chain_ending(chain: &Chain) -> Result<Ending, netlink::Error> {
    let names = [(nl::RULE_TABLE, chain.table.as_str()), (nl::RULE_CHAIN, chain.name.as_str())];
    let rules = dump("list nftables rules", nl::GETRULE, chain.family.number(), &names, |payload| {
        let rest = payload.get(4..)?;
        let of = |kind| attributes(rest).find_kind(kind).and_then(|a| a.text());
        // Kernels before 6.x ignore the filter and list every rule of the family.
        (of(nl::RULE_TABLE) == Some(&chain.table) && of(nl::RULE_CHAIN) == Some(&chain.name)).then_some(())?;
        Some(attributes(rest).find_kind(nl::RULE_EXPRESSIONS).map_or(Ending::Open, |list| rule_ending(&list)))
    })?;
    Ok(rules.last().copied().unwrap_or(Ending::Open))
}

fn dump<T>(
    step: &str,
    kind: u16,
    family: u8,
    names: &[(u16, &str)],
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, netlink::Error> {
    /// Rule sets of busy hosts change all the time; the last answer is taken as it is.
    const TRIES: u32 = 8;
    let mut socket = Socket::open(Protocol::Netfilter)?;
    for attempt in 1.. {
        let mut found = Vec::new();
        let listed = socket.dump(
            step,
            nl::SUBSYS | kind,
            |m| {
                header(m, family, 0);
                for (kind, name) in names {
                    m.attr_text(*kind, name);
                }
            },
            |_, payload| found.extend(parse(payload)),
        );
        match listed {
            Err(netlink::Error::DumpInterrupted { .. }) if attempt < TRIES => {}
            Err(netlink::Error::DumpInterrupted { .. }) | Ok(()) => return Ok(found),
            Err(error) => return Err(error),
        }
    }
    Ok(Vec::new())
}

fn parse_chain(payload: &[u8]) -> Option<Chain> {
    let rest = payload.get(4..)?;
    let of = |kind| attributes(rest).find_kind(kind);
    let text = |kind| Some(of(kind)?.text()?.to_owned());
    let base = of(nl::CHAIN_HOOK).and_then(|hook| {
        let number = |kind| be32(&hook.nested().find_kind(kind)?);
        Some(BaseChain {
            hook: number(nl::HOOK_NUM)?,
            priority: number(nl::HOOK_PRIORITY)?.cast_signed(),
            kind: text(nl::CHAIN_TYPE).unwrap_or_default(),
            drops: of(nl::CHAIN_POLICY).and_then(|p| be32(&p)) == Some(nl::NF_DROP),
        })
    });
    Some(Chain {
        family: Family::of(*payload.first()?),
        table: text(nl::CHAIN_TABLE)?,
        name: text(nl::CHAIN_NAME)?,
        base,
    })
}

/// A rule refuses everything when nothing in it is a condition and something in it refuses.
fn rule_ending(list: &Attribute<'_>) -> Ending {
    let mut refuses = false;
    for expression in list.nested() {
        let name = expression.nested().find_kind(1);
        let body = expression.nested().find_kind(2);
        match name.and_then(|n| n.text()) {
            Some("counter" | "log") => {}
            Some("reject") => refuses = true,
            Some("immediate") => refuses |= body.and_then(|b| verdict(&b)) == Some(nl::NF_DROP),
            // iptables-nft's REJECT is an xtables target in a wrapper.
            Some("target") => {
                let target = body.and_then(|b| b.nested().find_kind(1));
                refuses |= target.and_then(|t| t.text()) == Some("REJECT");
            }
            _ => return Ending::Open,
        }
    }
    if refuses { Ending::Refuses } else { Ending::Open }
}

fn verdict(immediate: &Attribute<'_>) -> Option<u32> {
    let data = immediate.nested().find_kind(2)?;
    let verdict = data.nested().find_kind(2)?;
    be32(&verdict.nested().find_kind(1)?)
}

fn be32(attribute: &Attribute<'_>) -> Option<u32> {
    Some(u32::from_be_bytes(attribute.value.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_take_any_bytes() {
        for len in 0..64 {
            for fill in [0u8, 1, 4, 8, 255] {
                let bytes = vec![fill; len];
                let _ = parse_chain(&bytes);
                let _ = rule_ending(&Attribute { kind: 4, value: &bytes });
            }
        }
    }
}
