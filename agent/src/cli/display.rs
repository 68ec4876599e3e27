//! Options of `smolotchi display`.

use crate::display::Model;
use clap::Args;
use std::path::PathBuf;

/// What `--help` teaches.
pub(super) const HELP: &str = "\
Examples:
  smolotchi display --terminal                      look at it here
  smolotchi display --png /tmp/status.png           the picture that the panel would show
  systemctl enable --now smolotchi-display.service  on the panel, from now on

Without an option it is the service: it draws the panel on SPI 0, chip 0, whenever what it shows has changed. Panel, rotation and
interval are [display] in the configuration. Exit code 30: there is no panel (display.no-panel).";

/// Options of `display`.
#[derive(Debug, Args)]
pub(crate) struct Display {
    /// Write the picture to this file and end.
    #[arg(long, value_name = "FILE", conflicts_with = "terminal")]
    pub(crate) png: Option<PathBuf>,
    /// Print the page and end.
    #[arg(long)]
    pub(crate) terminal: bool,
    /// Print it pixel by pixel, two in each letter.
    #[arg(long, requires = "terminal")]
    pub(crate) pixels: bool,
    /// As on this panel, instead of the configured one.
    #[arg(long, value_enum, value_name = "PANEL")]
    pub(crate) panel: Option<Model>,
}
