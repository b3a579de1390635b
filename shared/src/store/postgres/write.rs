//! Writes the outcome of a batch: one array per column.

use std::collections::HashSet;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::columns::Columns;
use super::existing::{ExistingQuery, ExistingRows};
use super::plan::{NewRow, WritePlan};
use super::pool::{Statement, pipeline};
use super::side_tables::{
    CREDIT, QUARANTINE, RAISE_MARKS, REMEMBER, changes, credited, marks, movements,
};
use super::stored::scalar;
use super::value::{Moment, Place, count, number};
use crate::contract::id::MessageId;
use crate::contract::message::Metadata;
use crate::contract::timestamp::Timestamp;
use crate::store::naming::place_is_taken;
use crate::store::{Committed, StoreError};

/// `unique_violation`, which `ON CONFLICT` keeps silent about.
const UNIQUE_VIOLATION: &str = "23505";

const INSERT: &str = "
    WITH written AS (
        INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, message_type, metadata,
            created_at, updated_at, accessed_at, send_time, epoch, seq, changed_epoch, changed_seq,
            change_id, edited_at, deleted_at, credits, client_id, metadata_text,
            metadata_hash)
        SELECT id, room, author, content, kind, metadata::jsonb, created_at, updated_at,
            created_at, send_time, epoch, seq, changed_epoch, changed_seq, change_id, edited_at,
            deleted_at, credits, client_id, metadata_text,
            CASE WHEN metadata_text IS NOT NULL
                THEN jsonb_hash_extended(metadata::jsonb, 0) END
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::bigint[], $11::bigint[],
            $12::bigint[], $13::bigint[], $14::text[], $15::timestamptz[], $16::timestamptz[],
            $17::bigint[], $18::text[], $19::text[])
            AS new(id, room, author, content, kind, metadata, created_at, updated_at, send_time,
                epoch, seq, changed_epoch, changed_seq, change_id, edited_at, deleted_at, credits,
                client_id, metadata_text)
        ON CONFLICT DO NOTHING
        RETURNING id
    )
    SELECT id FROM written";

const UPDATE: &str = "
    WITH written AS (
        UPDATE team_chat_messages AS m
        SET content = new.content, metadata = coalesce(new.metadata::jsonb, m.metadata),
            metadata_text = CASE WHEN new.metadata IS NULL THEN m.metadata_text
                ELSE new.metadata_text END,
            metadata_hash = CASE WHEN new.metadata IS NULL THEN m.metadata_hash
                WHEN new.metadata_text IS NOT NULL
                THEN jsonb_hash_extended(new.metadata::jsonb, 0) END,
            edited_at = coalesce(new.edited_at, m.edited_at),
            deleted_at = coalesce(m.deleted_at, new.deleted_at), updated_at = new.updated_at,
            changed_epoch = new.changed_epoch, changed_seq = new.changed_seq,
            change_id = new.change_id
        FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[],
            $6::timestamptz[], $7::bigint[], $8::bigint[], $9::text[], $10::text[])
            AS new(id, content, metadata, edited_at, deleted_at, updated_at, changed_epoch,
                changed_seq, change_id, metadata_text)
        WHERE m.id = new.id AND (coalesce(m.changed_epoch, 0), coalesce(m.changed_seq, 0))
            < (new.changed_epoch, new.changed_seq)
            -- Erased since it was looked at: nothing brings it back.
            AND (m.deleted_at IS NULL OR new.deleted_at IS NOT NULL)
        RETURNING 1
    )
    SELECT count(*) FROM written";

/// Gives rows of another program their places.
const ADOPT: &str = "
    WITH written AS (
        UPDATE team_chat_messages AS m
        SET epoch = new.epoch, seq = new.seq, send_time = coalesce(m.send_time, m.created_at),
            changed_epoch = CASE WHEN m.changed_epoch IS NULL THEN new.epoch
                ELSE m.changed_epoch END,
            changed_seq = CASE WHEN m.changed_epoch IS NULL THEN new.seq ELSE m.changed_seq END
        FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS new(id, epoch, seq)
        WHERE m.id = new.id AND m.epoch IS NULL
        RETURNING 1
    )
    SELECT count(*) FROM written";

/// What a statement's answer says.
#[derive(Clone, Copy)]
enum Part {
    /// The ids of the rows that were added.
    Added,
    /// How many rows were written of so many.
    Of(usize),
    Read,
    Credited,
    Quarantined,
    Nothing,
}

/// Writes what was decided, and `others` behind it; `None` when something came in between, and
/// the transaction must be undone.
pub(super) async fn write(
    client: &Client,
    mut plan: WritePlan<'_>,
    others: Vec<Statement<'_>>,
) -> Result<Option<Committed>, StoreError> {
    let Some((mut done, missing)) = write_once(client, &plan, others).await? else {
        return Ok(None);
    };
    if !missing.is_empty() {
        if !add_missing(client, &mut plan, missing).await? {
            return Ok(None);
        }
        (done.inserted, done.renamed) = (plan.done.inserted, plan.done.renamed);
    }
    Ok(Some(done))
}

/// Says why rows were not added, and adds those whose ids others took meanwhile under random ones;
/// `false` when another program has added the same message.
async fn add_missing(
    client: &Client,
    plan: &mut WritePlan<'_>,
    missing: Vec<String>,
) -> Result<bool, StoreError> {
    let known = {
        let mut wanted = ExistingQuery::default();
        for row_id in &missing {
            let identity = &plan.inserts[row_id].identity;
            wanted.name(&identity.room, &identity.id);
        }
        ExistingRows::read(&pipeline(client, &[wanted.statement()]).await?[0])?
    };
    let mut renamed = Vec::with_capacity(missing.len());
    for row_id in missing {
        let identity = &plan.inserts[&row_id].identity;
        if known.stands(identity) {
            return Ok(false);
        }
        if identity.id.as_str() != row_id || !known.taken(&identity.id) {
            return Err(place_is_taken(UNIQUE_VIOLATION));
        }
        renamed.extend(plan.rename(&row_id));
    }
    let again = inserts(renamed.iter().map(|row_id| (row_id, &plan.inserts[row_id])))?;
    match pipeline(client, &[again.statement(INSERT)]).await?[0].len() == renamed.len() {
        true => Ok(true),
        false => Err(place_is_taken(UNIQUE_VIOLATION)),
    }
}

/// What was done, and the ids of rows that were not added; `None` when another program came in
/// between.
///
/// Messages, changes, receipts, the ledger, balances: in that order everywhere, each by its keys.
async fn write_once(
    client: &Client,
    plan: &WritePlan<'_>,
    others: Vec<Statement<'_>>,
) -> Result<Option<(Committed, Vec<String>)>, StoreError> {
    let (inserts, updates) = (inserts(&plan.inserts)?, updates(plan)?);
    let (changes, marks) = (changes(plan)?, marks(plan)?);
    let (movements, adopted) = (movements(plan)?, adopted(plan)?);
    let mut statements = Vec::with_capacity(6 + others.len());
    let mut parts = Vec::with_capacity(6 + others.len());
    let mut add = |part, statement| {
        parts.push(part);
        statements.push(statement);
    };
    if !inserts.is_empty() {
        add(Part::Added, inserts.statement(INSERT));
    }
    if !adopted.is_empty() {
        add(Part::Of(plan.adopted.len()), adopted.statement(ADOPT));
    }
    if !updates.is_empty() {
        add(Part::Of(plan.updates.len()), updates.statement(UPDATE));
    }
    if !changes.is_empty() {
        add(Part::Nothing, changes.statement(REMEMBER));
    }
    if !marks.is_empty() {
        add(Part::Read, marks.statement(RAISE_MARKS));
    }
    if !movements.is_empty() {
        add(Part::Credited, movements.statement(CREDIT));
        add(Part::Quarantined, movements.statement(QUARANTINE));
    }
    others.into_iter().for_each(|other| add(Part::Nothing, other));

    let answers = pipeline(client, &statements).await?;
    let (mut done, mut missing) = (plan.done.clone(), Vec::new());
    for (answer, part) in answers.iter().zip(parts) {
        match part {
            Part::Added if answer.len() < plan.inserts.len() => {
                let added = answer.iter().map(|row| row.try_get(0));
                let added: HashSet<&str> = added.collect::<Result<_, _>>()?;
                let lost = plan.inserts.keys().filter(|row_id| !added.contains(row_id.as_str()));
                missing.extend(lost.cloned());
            }
            Part::Of(expected) if count(scalar(answer)?) != expected as u64 => return Ok(None),
            Part::Added | Part::Of(_) | Part::Nothing => {}
            Part::Read => done.read = count(scalar(answer)?),
            Part::Credited => credited(answer, &mut done)?,
            Part::Quarantined => done.quarantined = count(scalar(answer)?),
        }
    }
    Ok(Some((done, missing)))
}

fn adopted<'a>(plan: &'a WritePlan<'_>) -> Result<Columns<'a>, StoreError> {
    let mut columns = Columns::new([Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::INT8_ARRAY]);
    for (row_id, position) in &plan.adopted {
        let place = Place::exactly(*position)?;
        columns.push([row_id.as_str().into(), place.epoch.into(), place.seq.into()]);
    }
    Ok(columns)
}

/// The text of metadata, where jsonb could change it.
fn kept(metadata: &Metadata) -> Option<&str> {
    Some(metadata.as_str()).filter(|text| *text != "{}")
}

fn optional(moment: Option<Timestamp>) -> Result<Option<Moment>, StoreError> {
    moment.map(Moment::of).transpose()
}

/// The columns of [`INSERT`].
fn inserts<'a>(
    rows: impl IntoIterator<Item = (&'a String, &'a NewRow<'a>)>,
) -> Result<Columns<'a>, StoreError> {
    const TEXT: Type = Type::TEXT_ARRAY;
    const NUMBER: Type = Type::INT8_ARRAY;
    const MOMENT: Type = Type::TIMESTAMPTZ_ARRAY;
    let mut columns = Columns::new([
        TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, MOMENT, MOMENT, MOMENT, NUMBER, NUMBER, NUMBER, NUMBER,
        TEXT, MOMENT, MOMENT, NUMBER, TEXT, TEXT,
    ]);
    for (row_id, row) in rows {
        let (place, changed) = (Place::exactly(row.position)?, Place::exactly(row.changed)?);
        columns.push([
            row_id.as_str().into(),
            row.identity.room.as_str().into(),
            row.identity.user.as_str().into(),
            row.content.into(),
            row.kind.as_str().into(),
            row.metadata.for_decimals().into(),
            Moment::of(row.created_at)?.into(),
            Moment::of(row.updated_at)?.into(),
            optional(row.send_time)?.into(),
            place.epoch.into(),
            place.seq.into(),
            changed.epoch.into(),
            changed.seq.into(),
            row.change_id.map(MessageId::as_str).into(),
            optional(row.edited_at)?.into(),
            optional(row.deleted_at)?.into(),
            row.credits.map(number).transpose()?.into(),
            row.identity.id.as_str().into(),
            kept(&row.metadata).into(),
        ]);
    }
    Ok(columns)
}

/// The columns of [`UPDATE`].
fn updates<'a>(plan: &'a WritePlan<'_>) -> Result<Columns<'a>, StoreError> {
    const TEXT: Type = Type::TEXT_ARRAY;
    const NUMBER: Type = Type::INT8_ARRAY;
    const MOMENT: Type = Type::TIMESTAMPTZ_ARRAY;
    let mut columns =
        Columns::new([TEXT, TEXT, TEXT, MOMENT, MOMENT, MOMENT, NUMBER, NUMBER, TEXT, TEXT]);
    for (row_id, update) in &plan.updates {
        let changed = Place::exactly(update.changed)?;
        let metadata = update.metadata.as_deref();
        columns.push([
            row_id.as_str().into(),
            update.content.into(),
            metadata.map(Metadata::for_decimals).into(),
            optional(update.edited_at)?.into(),
            optional(update.deleted_at)?.into(),
            Moment::of(update.updated_at)?.into(),
            changed.epoch.into(),
            changed.seq.into(),
            update.change_id.as_str().into(),
            metadata.and_then(kept).into(),
        ]);
    }
    Ok(columns)
}
