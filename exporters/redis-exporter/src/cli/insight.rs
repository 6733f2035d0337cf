//! Flags of what redis_exporter does not have: clients by group, the background sampler of keys.

use clap::{ArgAction, Args};
use exporter_kit::config::GoDuration;

use crate::options::{ClientGroups, SamplerOptions};

/// See the module.
#[derive(Clone, Debug, Args)]
pub(super) struct InsightArgs {
    /// Clients by name, library, user and database; costs one CLIENT LIST a scrape
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    client_groups: bool,
    /// Clients above which they are not listed
    #[arg(long = "client-groups.max-clients", value_name = "N", default_value_t = ClientGroups::default().clients)]
    max_clients: u64,
    /// Groups before the rest is one group
    #[arg(long = "client-groups.max", value_name = "N", default_value_t = ClientGroups::default().groups)]
    max_groups: usize,
    /// Clients with the most memory that are shown
    #[arg(long = "client-groups.top", value_name = "N", default_value_t = ClientGroups::default().top)]
    top_clients: usize,
    /// The greatest keys, and type, memory and time to live of random ones, found in the background
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    key_insight: bool,
    /// How many of the greatest keys of a database
    #[arg(long = "key-insight.top", value_name = "N", default_value_t = SamplerOptions::default().top)]
    top_keys: usize,
    /// The server's time that the search for keys may take in each second, in the background; 0s searches within the scrape
    #[arg(long = "key-sampler.budget", value_name = "DURATION", default_value = "5ms")]
    budget: GoDuration,
}

impl InsightArgs {
    pub(super) fn client_groups(&self) -> Option<ClientGroups> {
        let limits =
            ClientGroups { clients: self.max_clients, groups: self.max_groups, top: self.top_clients };
        self.client_groups.then_some(limits)
    }

    /// The sampler, unless keys are to be searched as redis_exporter does it.
    pub(super) fn sampler(&self, within_the_scrape: bool) -> Option<SamplerOptions> {
        let budget = self.budget.get();
        let options = SamplerOptions { budget, insight: self.key_insight, top: self.top_keys };
        (!within_the_scrape && !budget.is_zero()).then_some(options)
    }
}
