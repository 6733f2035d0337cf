//! What an exporter says about itself: logs, process metrics, build information.

mod build_info;
pub mod log;
pub mod process;
pub mod traffic;

pub use build_info::{BUILD, Build, build_info};
