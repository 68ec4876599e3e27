//! Answers that are kept for a moment: however many look at a page at once, core is asked once.
//!
//! At most [`MOST`] answers, each for [`KEPT`] after it was made; nothing is kept of a page that nobody looks at.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long an answer is given again.
const KEPT: Duration = Duration::from_secs(1);
/// The most answers.
const MOST: usize = 8;
/// The largest answer that is kept; a larger one is only shared by those who wait for it together.
const LARGEST: usize = 128 * 1024;

/// One answer, ready to be sent; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The media type.
    pub(super) media: &'static str,
    pub(super) body: Bytes,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, self.media)], self.body).into_response()
    }
}

type Cell = Arc<OnceCell<Answer>>;

/// The answers, by what was asked.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<Vec<(String, Cell)>>);

impl Snapshots {
    /// The answer that is kept for `key`, or the one that `look` makes. Who asks while it is made waits for the same one;
    /// when the one who makes it goes away, the next takes over.
    pub(super) async fn get(self: &Arc<Self>, key: &str, look: impl Future<Output = Answer>) -> Answer {
        let cell = self.cell(key);
        let made = cell.get_or_init(async || {
            let answer = look.await;
            // Weak: an answer that made room for another must not stay until its second is over.
            let (kept, cell) = (self.clone(), Arc::downgrade(&cell));
            if answer.status == StatusCode::OK && answer.body.len() <= LARGEST {
                tokio::spawn(async move {
                    tokio::time::sleep(KEPT).await;
                    kept.forget(&cell);
                });
            } else {
                kept.forget(&cell);
            }
            answer
        });
        made.await.clone()
    }

    fn cell(&self, key: &str) -> Cell {
        let Ok(mut cells) = self.0.lock() else { return Cell::default() };
        if let Some((_, cell)) = cells.iter().find(|(of, _)| of == key) {
            return cell.clone();
        }
        if cells.len() >= MOST {
            cells.remove(0);
        }
        let cell = Cell::default();
        cells.push((key.to_owned(), cell.clone()));
        cell
    }

    fn forget(&self, cell: &Weak<OnceCell<Answer>>) {
        if let Ok(mut cells) = self.0.lock() {
            cells.retain(|(_, other)| Arc::as_ptr(other) != cell.as_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn answer(status: StatusCode, size: usize) -> Answer {
        Answer { status, media: "text/plain", body: vec![b'x'; size].into() }
    }

    #[tokio::test]
    async fn a_thousand_who_look_at_once_are_one_look() {
        let snapshots = Arc::<Snapshots>::default();
        let looks = Arc::new(AtomicU32::new(0));
        let look = |status, size| {
            let looks = looks.clone();
            async move {
                looks.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
                answer(status, size)
            }
        };
        let crowd = async |status, size| {
            let mut crowd = tokio::task::JoinSet::new();
            for _ in 0..1000 {
                let (snapshots, look) = (snapshots.clone(), look(status, size));
                crowd.spawn(async move { snapshots.get("/", look).await.body.len() });
            }
            assert!(crowd.join_all().await.iter().all(|length| *length == size));
            looks.swap(0, Ordering::Relaxed)
        };
        assert_eq!(crowd(StatusCode::OK, 5).await, 1);
        assert_eq!(crowd(StatusCode::OK, 5).await, 0, "still kept");
        tokio::time::sleep(KEPT + Duration::from_millis(100)).await;
        assert!(snapshots.0.lock().unwrap().is_empty(), "nothing is kept for nobody");
        assert_eq!(crowd(StatusCode::SERVICE_UNAVAILABLE, 5).await, 1);
        assert_eq!(crowd(StatusCode::OK, LARGEST + 1).await, 1, "a failure is not kept");
        assert_eq!(crowd(StatusCode::OK, 5).await, 1, "and neither is what is large");
        for number in 0..100 {
            snapshots.get(&number.to_string(), look(StatusCode::OK, 5)).await;
        }
        assert_eq!(snapshots.0.lock().unwrap().len(), MOST);
        // What made room is gone at once, not when its time is over.
        let body = Bytes::from(vec![b'x'; 5]);
        let kept = body.clone();
        snapshots.get("room", async move { Answer { status: StatusCode::OK, media: "", body } }).await;
        assert!(!kept.is_unique());
        for number in 0..MOST {
            snapshots.get(&format!("x{number}"), look(StatusCode::OK, 5)).await;
        }
        assert!(kept.is_unique());
    }

    #[tokio::test]
    async fn who_goes_away_while_looking_is_taken_over() {
        let snapshots = Arc::<Snapshots>::default();
        let never = snapshots.get("/", std::future::pending());
        assert!(tokio::time::timeout(Duration::from_millis(5), never).await.is_err());
        assert_eq!(snapshots.get("/", async { answer(StatusCode::OK, 3) }).await.body.len(), 3);
    }
}
