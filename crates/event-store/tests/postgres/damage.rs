//! Rows that somebody, or the disk, has changed.

use kite_event_store::{AppendError, EventStore, Expected, Filter, ReadError};

use crate::support::{append, append_one};
use crate::{database, open};

#[tokio::test]
async fn what_another_process_wrote_and_nobody_can_read_is_told_of_and_stops_only_whoever_reads_it() {
    let database = database().await;
    let (writer, reader) = (open(&database.url()).await, open(&database.url()).await);
    database
        .execute(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF NEW.version = 2 THEN NEW.time := 9000000000000000; END IF; RETURN NEW; END $$;
             CREATE TRIGGER spoil BEFORE INSERT ON kite_log.events FOR EACH ROW EXECUTE FUNCTION spoil()",
        )
        .await;
    append_one(&writer, append("a", Expected::Any, [1, 2, 3])).await.unwrap();
    crate::until_head(&reader, 3).await;
    let read = reader.read_all(0, 10, &Filter::everything()).await;
    assert!(matches!(read, Err(ReadError::Unreadable(_))), "{read:?}");
    let appended = append_one(&writer, append("b", Expected::Any, [4])).await.unwrap();
    crate::until_head(&reader, appended.position).await;
    assert_eq!(reader.read_all(3, 10, &Filter::everything()).await.unwrap().events.len(), 1);
}

#[tokio::test]
async fn where_an_event_is_missing_others_are_followed_all_the_same() {
    let database = database().await;
    let (writer, reader) = (open(&database.url()).await, open(&database.url()).await);
    database
        .execute(
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF NEW.version = 2 THEN RETURN NULL; END IF; RETURN NEW; END $$;
             CREATE TRIGGER lose BEFORE INSERT ON kite_log.events FOR EACH ROW EXECUTE FUNCTION lose()",
        )
        .await;
    append_one(&writer, append("a", Expected::Any, [1, 2, 3])).await.unwrap();
    crate::until_head(&reader, 3).await;
    let page = reader.read_all(0, 10, &Filter::everything()).await.unwrap();
    assert_eq!(page.events.iter().map(|event| event.position).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn a_head_that_is_behind_its_events_is_an_error_and_not_tried_for_ever() {
    let database = database().await;
    let store = open(&database.url()).await;
    append_one(&store, append("a", Expected::Any, [1, 2])).await.unwrap();
    database.execute("UPDATE kite_log.head SET position = 1").await;
    let answer = append_one(&store, append("b", Expected::Any, [3])).await;
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    assert_eq!(store.read_stream("b", 0, 10).await.unwrap().len(), 0);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_told_in_its_place() {
    let database = database().await;
    let store = open(&database.url()).await;
    append_one(&store, append("a", Expected::Any, [1, 2, 3])).await.unwrap();
    append_one(&store, append("b", Expected::Any, [4])).await.unwrap();
    for damage in [
        // After the last moment that there is.
        "UPDATE kite_log.events SET time = 9000000000000000 WHERE position = 2",
        "UPDATE kite_log.events SET trace = decode(repeat('00', 25), 'hex') WHERE position = 3",
        "DELETE FROM kite_log.streams WHERE name = 'b'",
    ] {
        database.execute(damage).await;
    }
    let page = store.read_kept(0, 10).await.unwrap();
    let readable: Vec<bool> = page.events.iter().map(|kept| kept.event.is_ok()).collect();
    assert_eq!(readable, [true, false, false, false]);
    let places: Vec<_> = page.events.iter().map(|kept| (kept.position, kept.version)).collect();
    assert_eq!(places, [(1, 1), (2, 2), (3, 3), (4, 1)]);
    let stream = store.read_kept_stream("a", 0, 10).await.unwrap();
    assert_eq!(stream.iter().map(|kept| kept.event.is_ok()).collect::<Vec<_>>(), [true, false, false]);
    // Whoever goes on from what it reads does not get past it, unless it was in memory before.
    let store = open(&database.url()).await;
    let read = store.read_all(0, 10, &Filter::everything()).await;
    assert!(matches!(read, Err(ReadError::Unreadable(_))), "{read:?}");
    assert_eq!(store.read_all(0, 1, &Filter::everything()).await.unwrap().events.len(), 1);
}
