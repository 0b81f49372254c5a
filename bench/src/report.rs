//! All figures, for people and for programs.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::freeze::Freeze;
use crate::memory::Memory;
use crate::transfer::{Compared, Measured};
use crate::wrapper::Wrapper;

/// What was measured; a part that wasn't is missing.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The figures that others compare: each name says what over what.
    ratios: BTreeMap<&'static str, f64>,
    freeze: Option<Freeze>,
    wrapper: Option<Wrapper>,
    memory: Option<Memory>,
    transfer: Option<Compared>,
}

impl Report {
    /// Adds the freeze.
    pub fn freeze(&mut self, freeze: Freeze) {
        self.ratios.insert("freeze_64m_vs_hand", freeze.transship_ms / freeze.by_hand_ms);
        let unlocked = freeze.transship_ms / freeze.by_hand_unlocked_ms;
        self.ratios.insert("freeze_64m_vs_hand_unlocked", unlocked);
        self.freeze = Some(freeze);
    }

    /// Adds the wrapper's cost.
    pub fn wrapper(&mut self, wrapper: Wrapper) {
        self.ratios.insert("wrapper_ms", wrapper.create_ms.max(wrapper.other_ms));
        self.wrapper = Some(wrapper);
    }

    /// Adds the agents' memory.
    pub fn memory(&mut self, memory: Memory) {
        self.ratios.insert("agent_peak_mib", memory.source_peak_mib.max(memory.target_peak_mib));
        self.memory = Some(memory);
    }

    /// Adds the transfer.
    pub fn transfer(&mut self, compared: Compared) {
        self.ratios.insert("goodput_vs_iperf3", compared.transship.goodput / compared.iperf3.goodput);
        self.ratios.insert("goodput_vs_quinn", compared.transship.goodput / compared.quinn.goodput);
        self.transfer = Some(compared);
    }

    /// For people.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
            "what",
            "transship",
            "beside it",
            "ratio",
        ]);
        if let Some(freeze) = &self.freeze {
            let hand = format!("{:.0} ms by hand", freeze.by_hand_ms);
            let ratio = self.ratio("freeze_64m_vs_hand");
            table.add_row(["freeze, 64 MiB".into(), format!("{:.0} ms", freeze.transship_ms), hand, ratio]);
            let unlocked = format!("{:.0} ms, unlocked", freeze.by_hand_unlocked_ms);
            let ratio = self.ratio("freeze_64m_vs_hand_unlocked");
            table.add_row([String::new(), String::new(), unlocked, ratio]);
            let of_phase = |phase| format!("{:.0} ms", freeze.phases_ms.get(phase).copied().unwrap_or(0.0));
            let checkpoint = format!("{:.0} ms", freeze.by_hand_checkpoint_ms);
            table.add_row(["  dump and send".into(), of_phase("capture"), checkpoint, String::new()]);
            let restore = format!("{:.0} ms", freeze.by_hand_restore_ms);
            table.add_row(["  restore and check".into(), of_phase("restore"), restore, String::new()]);
        }
        if let Some(wrapper) = &self.wrapper {
            let cost = format!("{:.2} ms a create, {:.2} ms else", wrapper.create_ms, wrapper.other_ms);
            table.add_row(["the wrapper adds".into(), cost, "-".into(), String::new()]);
        }
        if let Some(memory) = &self.memory {
            let peak =
                format!("{:.0} MiB source, {:.0} MiB target", memory.source_peak_mib, memory.target_peak_mib);
            let disk = format!("{:.0} KiB to disk", memory.written_to_disk as f64 / 1024.0);
            table.add_row(["agents' peak memory, 1 GiB".into(), peak, disk, String::new()]);
        }
        if let Some(compared) = &self.transfer {
            let ours = row(&compared.transship);
            let ratios = [self.ratio("goodput_vs_iperf3"), self.ratio("goodput_vs_quinn")];
            let [iperf, quinn] = ratios;
            table.add_row([
                "random data".into(),
                ours.clone(),
                format!("{} iperf3", row(&compared.iperf3)),
                iperf,
            ]);
            table.add_row([String::new(), ours, format!("{} bare quinn", row(&compared.quinn)), quinn]);
        }
        table
    }

    fn ratio(&self, name: &str) -> String {
        self.ratios.get(name).map(|ratio| format!("{ratio:.2}")).unwrap_or_default()
    }
}

fn row(measured: &Measured) -> String {
    format!("{:.2} GB/s, {:.2} CPU s/GiB", measured.goodput / 1e9, measured.cpu_seconds_per_gib)
}
