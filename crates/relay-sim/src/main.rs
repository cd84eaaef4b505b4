//! `relay-sim`: simulated carriers as a process of their own.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use kite_relay_sim::{RelayKind, RelaySim, Scenario};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulated carriers that speak the protocol of docs/relay-protocol.md.
#[derive(Parser)]
#[command(name = "relay-sim", version)]
struct Arguments {
    /// Scenario file (JSON); an example is infra/relay-sim/scenario.json.
    #[arg(long)]
    scenario: PathBuf,
    /// Listen here instead of where the scenario says; port 0 picks a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let path = arguments.scenario.display();
    let text = std::fs::read_to_string(&arguments.scenario).with_context(|| format!("cannot read {path}"))?;
    let mut scenario = Scenario::from_json(&text).with_context(|| format!("{path}"))?;
    scenario.listen = arguments.listen.unwrap_or(scenario.listen);
    let mut terminated = signal(SignalKind::terminate())?;
    let relays: Vec<(String, RelayKind)> =
        scenario.relays.iter().map(|relay| (relay.id.clone(), relay.kind)).collect();
    let simulator = RelaySim::start(scenario).await?;
    println!("{}", addresses(&simulator, &relays));
    tokio::select! {
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    simulator.shutdown().await;
    Ok(())
}

/// One line of JSON: `{"admin":url,"relays":{id:url or address}}`.
fn addresses(simulator: &RelaySim, relays: &[(String, RelayKind)]) -> serde_json::Value {
    let relays: serde_json::Map<String, serde_json::Value> = relays
        .iter()
        .map(|(id, kind)| {
            let address = match kind {
                RelayKind::Http => simulator.base_url(id),
                RelayKind::Smtp => {
                    simulator.smtp_address(id).map(|address| format!("smtp://{address}")).unwrap_or_default()
                }
            };
            (id.clone(), address.into())
        })
        .collect();
    serde_json::json!({ "admin": simulator.admin_url(), "relays": relays })
}
