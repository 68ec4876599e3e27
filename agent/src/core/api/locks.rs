//! The leases' calls: look and clean; for the worker take, renew and drop any that is no job's.

use super::{Answer, jobs::lease_time};
use crate::clock;
use crate::core::refuse::{Refusal, parse};
use crate::core::{Core, work};
use crate::wire;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::routing::{get, post};
use axum::{Json, Router};
use smolotchi_operator::{Code, Fault};
use smolotchi_store::{Lease, NewLease, Process};
use std::sync::Arc;

/// For everyone to read, and for admins.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/locks", get(locks)).route("/v1/locks/clean", post(clean))
}

/// For the worker as well.
pub(super) fn worker_routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/locks/take", post(take)).route("/v1/locks/renew", post(renew)).route("/v1/locks/drop", post(give_up))
}

fn shown(core: &Core, lease: Lease) -> wire::Lock {
    let judged = core.work.judge(&lease);
    let left = i128::from(lease.expires_boottime_ms) - i128::from(clock::boottime_ms());
    wire::Lock {
        name: lease.name,
        owner: lease.owner,
        taken_at: clock::rfc3339(lease.taken_ms),
        expires_in_s: i64::try_from(left / 1000).unwrap_or(i64::MAX),
        stale: judged.gone,
        why: judged.why,
    }
}

async fn locks(State(core): State<Arc<Core>>) -> Answer<wire::Locks> {
    let leases = core.store(|store| store.leases()).await?;
    Ok(Json(wire::Locks { locks: leases.into_iter().map(|lease| shown(&core, lease)).collect() }))
}

async fn clean(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Locks> {
    let wire::CleanLocks { dry_run } = parse(body)?;
    let mut locks = Vec::new();
    for lease in core.store(|store| store.leases()).await? {
        let judged = core.work.judge(&lease);
        if judged.gone && (dry_run || core.free(&lease, judged.why).await?) {
            locks.push(shown(&core, lease));
        }
    }
    Ok(Json(wire::Locks { locks }))
}

async fn take(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::TakenLock> {
    let wire::TakeLock { name, owner, lease_s } = parse(body)?;
    super::word("name", &name)?;
    super::word("owner.role", &owner.role)?;
    let token = work::token()?;
    let owner = Process { boot_id: owner.boot_id.replace('-', ""), ..owner };
    let expires_boottime_ms = clock::boottime_ms() + lease_time(lease_s)? * 1000;
    let new = NewLease { name, owner, token: token.clone(), expires_boottime_ms };
    let try_it = async || {
        let new = new.clone();
        core.store(move |store| store.take_lease(&new, clock::now_ms())).await
    };
    let Some(held) = try_it().await? else { return Ok(Json(wire::TakenLock { token })) };
    let judged = core.work.judge(&held);
    // Whoever lost it doesn't keep others out.
    if judged.over && core.free(&held, judged.why.clone()).await? && try_it().await?.is_none() {
        return Ok(Json(wire::TakenLock { token }));
    }
    let fault = Fault::new(Code::LeaseHeld, "another process holds this").fact("lease", held.name).fact("role", held.owner.role);
    Err(fault.fact("pid", held.owner.pid).fact("why", judged.why).into())
}

fn not_held(name: &str) -> Refusal {
    Fault::new(Code::LeaseNotHeld, "this token does not hold the lease").fact("lease", name).into()
}

async fn renew(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Renewed> {
    let wire::HeldLock { name, token, lease_s } = parse(body)?;
    super::word("name", &name)?;
    let ends = clock::boottime_ms() + lease_time(lease_s)? * 1000;
    let of = name.clone();
    let held = core.store(move |store| store.renew_lease(&of, &token, ends, clock::now_ms())).await?;
    if held { Ok(Json(wire::Renewed { renewed: true })) } else { Err(not_held(&name)) }
}

async fn give_up(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Dropped> {
    let wire::HeldLock { name, token, .. } = parse(body)?;
    let of = name.clone();
    let held = core.store(move |store| store.drop_lease(&of, &token, clock::now_ms())).await?;
    if held { Ok(Json(wire::Dropped { dropped: true })) } else { Err(not_held(&name)) }
}
