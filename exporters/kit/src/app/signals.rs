//! SIGTERM and SIGINT end the exporter, SIGHUP reloads it; systemd is told what happens.

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Reload;

/// Watches for signals until one ends the process, and keeps systemd's watchdog fed.
pub(super) fn watch(
    name: &'static str,
    reload: Option<Reload>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => match &reload {
                    Some(reload) => run_reload(reload).await,
                    None => tracing::info!("nothing to reload"),
                },
            }
        }
        tracing::info!(exporter = name, "stopping: running scrapes may finish");
        notify(&[NotifyState::Stopping]);
        shutdown.cancel();
    });
    if let Some(interval) = sd_notify::watchdog_enabled() {
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval / 2);
            loop {
                ticks.tick().await;
                notify(&[NotifyState::Watchdog]);
            }
        });
    }
    Ok(())
}

async fn run_reload(reload: &Reload) {
    match reload().await {
        Ok(()) => tracing::info!("reloaded"),
        Err(error) => tracing::error!(error, "cannot reload; what was loaded before stays"),
    }
}

/// Tells systemd that the exporter listens.
pub(super) fn notify_ready() {
    notify(&[NotifyState::Ready]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}
