//! prove: shows that a store does all we need, before a volume is put on it. Called by `format` only; leaves no object behind.

use super::{ObjectError, ObjectStore};
use crate::error::ClientError;
use bytes::Bytes;
use rand::RngCore;
use std::time::Duration;

/// Body of the test object, bytes: more than one packet, less than anyone pays for.
const PROOF_BYTES: usize = 100_000;
/// Pauses before a listing is asked for, together as long as a store may lag.
const LISTED_WITHIN_MS: [u64; 6] = [0, 100, 400, 1000, 1500, 2000];
const RANGE: std::ops::Range<u64> = 4_000..70_001;

/// Prepares the place, then puts, gets, gets a range of, lists and deletes a random object.
///
/// # Errors
/// The message names the step that failed and what to look at.
pub async fn prove(store: &dyn ObjectStore) -> Result<(), ClientError> {
    store.prepare().await.map_err(|error| failed("prepare the bucket", &error, "does it exist, may we write to it"))?;
    let mut body = vec![0_u8; PROOF_BYTES];
    rand::rng().fill_bytes(&mut body);
    let body = Bytes::from(body);
    let key = format!("proof/{:016x}", rand::rng().next_u64());
    let result = steps(store, &key, &body).await;
    if result.is_err() {
        // The proof has failed and says why; its object is in nobody's way.
        let _ = store.delete(&key).await;
    }
    result
}

async fn steps(store: &dyn ObjectStore, key: &str, body: &Bytes) -> Result<(), ClientError> {
    store
        .put(key, body.clone())
        .await
        .map_err(|error| failed("put", &error, "bucket URL, credentials, region, permission to write"))?;
    let got = store.get(key).await.map_err(|error| failed("get", &error, "permission to read"))?;
    if got != body {
        return Err(ClientError::Object("proof failed at step get: other bytes came back than were put".into()));
    }
    // What a lost reply makes us do; some stores keep the first for ever, or want another permission for it.
    store
        .put(key, body.clone())
        .await
        .map_err(|error| failed("put again", &error, "permission to overwrite, and no lock on objects"))?;
    let part = store
        .get_range(key, RANGE)
        .await
        .map_err(|error| failed("get range", &error, "does the store support range requests"))?;
    if part != body.slice(RANGE.start as usize..RANGE.end as usize) {
        return Err(ClientError::Object("proof failed at step get range: the store does not honour ranges".into()));
    }
    is_listed(store, key).await?;
    store.delete(key).await.map_err(|error| failed("delete", &error, "permission to delete"))?;
    match store.get(key).await {
        Err(ObjectError::NotFound(_)) => Ok(()),
        Ok(_) => Err(ClientError::Object("proof failed at step delete: the object is still there".into())),
        Err(error) => Err(failed("get after delete", &error, "permission to read and to list")),
    }
}

/// Some stores list late. Nothing that reads or writes files lists, so that is no fault; never is one.
async fn is_listed(store: &dyn ObjectStore, key: &str) -> Result<(), ClientError> {
    for pause_ms in LISTED_WITHIN_MS {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let listed = store.list("proof").await.map_err(|error| failed("list", &error, "permission to list"))?;
        if listed.iter().any(|(name, size)| name == key && *size == PROOF_BYTES as u64) {
            return Ok(());
        }
    }
    Err(ClientError::Object(
        "proof failed at step list: an object that was put is not listed (check: bucket URL)".into(),
    ))
}

fn failed(step: &str, error: &ObjectError, check: &str) -> ClientError {
    ClientError::Object(format!("proof failed at step {step}: {error} (check: {check})"))
}

#[cfg(test)]
mod tests {
    use super::super::LocalStore;
    use super::super::fault::{FaultStore, Faults};
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn each_thing_that_a_store_does_not_do_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        let fault = FaultStore::new(Arc::new(LocalStore::new(dir.path().to_path_buf(), false)));
        assert_eq!(prove(&fault).await, Ok(()));
        let cases = [
            ("put", Faults { puts_fail: true, ..Faults::default() }),
            ("put again", Faults { overwrites_refused: true, ..Faults::default() }),
            ("get", Faults { gets_wrong: true, ..Faults::default() }),
            ("get", Faults { put_lost_next: 2, ..Faults::default() }),
            ("delete", Faults { deletes_fail: true, ..Faults::default() }),
        ];
        for (step, faults) in cases {
            fault.set(|now| *now = faults);
            let error = prove(&fault).await.expect_err(step).to_string();
            assert!(error.contains(&format!("step {step}:")), "{error}");
            fault.set(|now| *now = Faults::default());
        }
    }
}
