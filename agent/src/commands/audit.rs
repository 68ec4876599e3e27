//! `smolotchi audit`: whether the event log is what was written, as core works it out.

use crate::client::{Client, block_on};
use crate::paths::Paths;
use crate::wire::Audited;
use smolotchi_operator::output::emit;
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};

impl Table for Audited {
    fn table(&self) -> String {
        let Audited { events, sealed, unsealed, commits, .. } = self;
        let mut text = format!("whole: {events} events, {sealed} of them sealed in {commits} commits\n");
        if *unsealed > 0 {
            text += &format!("unsealed: {unsealed} events were written before the chain began, or by a version without it\n");
        }
        if let (Some(head), Some(last)) = (&self.head, self.last_id) {
            text += &format!("last seal, up to event {last}: {head}\n");
        }
        text
    }
}

/// Exit 0 when the log is whole. Errors: `audit.broken`.
pub(crate) fn verify(paths: &Paths, format: Format) -> Result<Exit> {
    let audited: Audited = block_on(Client::new(paths.socket()).get_long("/v1/audit"))?;
    let Some(broken) = &audited.broken else {
        emit(format, &audited);
        return Ok(Exit::Success);
    };
    let mut fault = Fault::new(Code::AuditBroken, broken.what.clone())
        .fact("first_id", broken.first_id)
        .fact("last_id", broken.last_id)
        .fact("whole_before", audited.sealed + audited.unsealed);
    if !broken.missing.is_empty() {
        let missing: Vec<_> = broken.missing.iter().map(|(from, to)| format!("{from} to {to}")).collect();
        fault = fault.fact("missing", missing.join(", "));
    }
    Err(fault)
}
