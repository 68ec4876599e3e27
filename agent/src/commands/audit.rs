//! `smolotchi audit`: whether the event log is what was written, as core works it out.

use crate::account::{self, Account};
use crate::client::{Client, block_on};
use crate::paths::Paths;
use crate::store_fault::store_fault;
use crate::wire::Audited;
use smolotchi_operator::output::emit;
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use std::path::Path;

impl Table for Audited {
    fn table(&self) -> String {
        let Audited { events, sealed, unsealed, commits, .. } = self;
        let mut text = format!("whole: {events} events, {sealed} of them sealed in {commits} commits\n");
        if *unsealed > 0 {
            text += &format!("unsealed: {unsealed} events were written before the chain began, or by a version without it\n");
        }
        for (from, to) in &self.skipped {
            text += &format!("skipped: the ids {from} to {to} are not in the log\n");
        }
        if let (Some(head), Some(last)) = (&self.head, self.last_id) {
            text += &format!("last seal, up to event {last}: {head}\n");
        }
        text
    }
}

/// Exit 0 when the log is whole. Without a file core is asked. Errors: `audit.broken`; of a file the store's, and `store.wrong-user`:
/// a database that another user opened has files beside it that lock its owner out.
pub(crate) fn verify(paths: &Paths, format: Format, database: Option<&Path>) -> Result<Exit> {
    let audited: Audited = match database {
        None => block_on(Client::new(paths.socket()).get_long("/v1/audit"))?,
        Some(file) => {
            let owner = Account::owner_of(file).ok().filter(|owner| owner.uid != rustix::process::geteuid().as_raw());
            if let Some(owner) = owner {
                let name = account::name_of(owner.uid);
                return Err(Fault::new(Code::StoreWrongUser, "only the user that owns the file may look into it").fact("owner", name));
            }
            smolotchi_store::audit_file(file).map_err(store_fault)?.into()
        }
    };
    match broken(&audited) {
        Some(fault) => Err(fault),
        None => {
            emit(format, &audited);
            Ok(Exit::Success)
        }
    }
}

/// What is broken, if anything is.
pub(crate) fn broken(audited: &Audited) -> Option<Fault> {
    let broken = audited.broken.as_ref()?;
    let mut fault = Fault::new(Code::AuditBroken, broken.what.clone())
        .fact("first_id", broken.first_id)
        .fact("last_id", broken.last_id)
        .fact("whole_before", audited.sealed + audited.unsealed);
    if !broken.missing.is_empty() {
        let missing: Vec<_> = broken.missing.iter().map(|(from, to)| format!("{from} to {to}")).collect();
        fault = fault.fact("missing", missing.join(", "));
    }
    Some(fault)
}
