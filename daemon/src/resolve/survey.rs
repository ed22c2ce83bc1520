//! Every resolver asked over each transport by itself, for the doctor.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ConnectionConfig;
use minionet_core::config::Config;
use minionet_core::doctor::facts::{Reply, ResolverFacts};
use minionet_core::membership::{FailureKind, Outcome};

use super::{LIMIT, anchors, ask, over, system_servers};

/// How often a server is asked over UDP: random samples show by being different.
const TIMES: usize = 3;

/// Asks all servers for all names, at the same time.
///
/// # Errors
/// When no server is known, or the trust anchor cannot be read, in words.
pub async fn survey(config: &Config) -> Result<Vec<ResolverFacts>, String> {
    let servers = if config.resolvers.is_empty() { system_servers()? } else { config.resolvers.clone() };
    if servers.is_empty() {
        return Err("no DNS server is known".to_owned());
    }
    let anchors = config.trust_anchor.as_deref().map(anchors).transpose()?;
    let mut tasks = tokio::task::JoinSet::new();
    for server in servers {
        let resolver = |transport| over(server, vec![transport], config.dns_timeout, &anchors);
        let udp = resolver(ConnectionConfig::udp()).map_err(|e| e.to_string())?;
        let tcp = resolver(ConnectionConfig::tcp()).map_err(|e| e.to_string())?;
        for name in config.names() {
            let (udp, tcp) = (udp.clone(), tcp.clone());
            tasks.spawn(async move { question(server, name, &udp, &tcp).await });
        }
    }
    // One that panics has nothing to say.
    let mut facts: Vec<ResolverFacts> = tasks.join_all().await;
    facts.sort_by(|a, b| (&a.name, a.server).cmp(&(&b.name, b.server)));
    Ok(facts)
}

async fn question(
    server: SocketAddr,
    name: String,
    udp: &TokioResolver,
    tcp: &TokioResolver,
) -> ResolverFacts {
    let over_tcp = reply(tcp, &name);
    let over_udp = async {
        let mut replies = Vec::new();
        for _ in 0..TIMES {
            let said = reply(udp, &name).await;
            let failed = said.is_err();
            replies.push(said);
            if failed {
                break;
            }
        }
        replies
    };
    let (tcp, mut udp) = tokio::join!(over_tcp, over_udp);
    let is_truncated = |reply: &Reply| matches!(reply, Err((FailureKind::Truncated, _)));
    let truncated = udp.iter().any(is_truncated);
    udp.retain(|reply| !is_truncated(reply));
    ResolverFacts { name, server, udp, truncated, tcp }
}

/// What a server says to one question, within a bounded time.
async fn reply(resolver: &TokioResolver, name: &str) -> Reply {
    let limit: Duration = resolver.options().timeout * LIMIT;
    match tokio::time::timeout(limit, ask(resolver, name)).await {
        Ok(Outcome::Answer { addresses, ttl, complete }) => {
            // One of the two families was not told: which is what truncation does to it.
            if !(complete.v4 && complete.v6) {
                return Err((FailureKind::Truncated, "only a part of the records came".to_owned()));
            }
            // It came from a number of 32 bits.
            Ok((addresses.iter().collect(), ttl.as_secs() as u32))
        }
        Ok(Outcome::Failure { kind, text }) => Err((kind, text)),
        Err(_) => Err((FailureKind::Timeout, format!("no answer within {limit:?}"))),
    }
}
