//! Writes the outcome of a batch: one array per column.

use std::borrow::Cow;
use std::collections::HashSet;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::existing::{Known, Wanted};
use super::plan::{NewRow, Update, WritePlan};
use super::pool::{Parameter, Statement, pipeline};
use super::side_tables::{Changes, Marks, Movements, credited};
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
        let mut wanted = Wanted::default();
        for row_id in &missing {
            let identity = &plan.inserts[row_id].identity;
            wanted.name(&identity.room, &identity.id);
        }
        Known::read(&pipeline(client, &[wanted.statement()]).await?[0])?
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
    let mut inserts = Inserts::default();
    for row_id in &renamed {
        inserts.push(row_id, &plan.inserts[row_id])?;
    }
    let again = Statement { sql: INSERT, parameters: inserts.parameters() };
    match pipeline(client, &[again]).await?[0].len() == renamed.len() {
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
    let (inserts, updates) = (Inserts::of(plan)?, Updates::of(plan)?);
    let (changes, marks) = (Changes::of(plan)?, Marks::of(plan)?);
    let (movements, adopted) = (Movements::of(plan)?, Adopted::of(plan)?);
    let mut statements = Vec::with_capacity(6 + others.len());
    let mut parts = Vec::with_capacity(6 + others.len());
    let mut add = |part, statement| {
        parts.push(part);
        statements.push(statement);
    };
    if !plan.inserts.is_empty() {
        let statement = Statement { sql: INSERT, parameters: inserts.parameters() };
        add(Part::Added, statement);
    }
    if !plan.adopted.is_empty() {
        let statement = Statement { sql: ADOPT, parameters: adopted.parameters() };
        add(Part::Of(plan.adopted.len()), statement);
    }
    if !plan.updates.is_empty() {
        let statement = Statement { sql: UPDATE, parameters: updates.parameters() };
        add(Part::Of(plan.updates.len()), statement);
    }
    if !plan.changes.is_empty() {
        add(Part::Nothing, changes.statement());
    }
    if !plan.marks.is_empty() {
        add(Part::Read, marks.statement());
    }
    if !plan.movements.is_empty() {
        add(Part::Credited, movements.ledger());
        add(Part::Quarantined, movements.quarantine());
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

/// The columns of [`ADOPT`].
#[derive(Default)]
struct Adopted<'a> {
    ids: Vec<&'a str>,
    epochs: Vec<i64>,
    seqs: Vec<i64>,
}

impl<'a> Adopted<'a> {
    fn of(plan: &'a WritePlan<'_>) -> Result<Adopted<'a>, StoreError> {
        let mut columns = Adopted::default();
        for (row_id, position) in &plan.adopted {
            let place = Place::exactly(*position)?;
            columns.ids.push(row_id);
            columns.epochs.push(place.epoch);
            columns.seqs.push(place.seq);
        }
        Ok(columns)
    }

    fn parameters(&self) -> Vec<Parameter<'_>> {
        vec![
            (&self.ids, Type::TEXT_ARRAY),
            (&self.epochs, Type::INT8_ARRAY),
            (&self.seqs, Type::INT8_ARRAY),
        ]
    }
}

type Moments = Vec<Option<Moment>>;

/// The text of metadata, where jsonb could change it.
fn kept(metadata: &Metadata) -> Option<&str> {
    Some(metadata.as_str()).filter(|text| *text != "{}")
}

fn optional(moment: Option<Timestamp>) -> Result<Option<Moment>, StoreError> {
    moment.map(Moment::of).transpose()
}

/// The columns of [`INSERT`].
#[derive(Default)]
struct Inserts<'a> {
    ids: Vec<&'a str>,
    rooms: Vec<&'a str>,
    users: Vec<&'a str>,
    contents: Vec<&'a str>,
    kinds: Vec<&'a str>,
    metadata: Vec<Cow<'a, str>>,
    metadata_texts: Vec<Option<&'a str>>,
    created_at: Vec<Moment>,
    updated_at: Vec<Moment>,
    send_time: Moments,
    epochs: Vec<i64>,
    seqs: Vec<i64>,
    changed_epochs: Vec<i64>,
    changed_seqs: Vec<i64>,
    change_ids: Vec<Option<&'a str>>,
    edited_at: Moments,
    deleted_at: Moments,
    credits: Vec<Option<i64>>,
    client_ids: Vec<&'a str>,
}

impl<'a> Inserts<'a> {
    fn of(plan: &'a WritePlan<'_>) -> Result<Inserts<'a>, StoreError> {
        let mut columns = Inserts::default();
        for (row_id, row) in &plan.inserts {
            columns.push(row_id, row)?;
        }
        Ok(columns)
    }

    fn push(&mut self, row_id: &'a str, row: &'a NewRow<'_>) -> Result<(), StoreError> {
        let (place, changed) = (Place::exactly(row.position)?, Place::exactly(row.changed)?);
        self.ids.push(row_id);
        self.rooms.push(row.identity.room.as_str());
        self.users.push(row.identity.user.as_str());
        self.contents.push(row.content);
        self.kinds.push(row.kind.as_str());
        self.metadata.push(row.metadata.for_decimals());
        self.metadata_texts.push(kept(&row.metadata));
        self.created_at.push(Moment::of(row.created_at)?);
        self.updated_at.push(Moment::of(row.updated_at)?);
        self.send_time.push(optional(row.send_time)?);
        self.epochs.push(place.epoch);
        self.seqs.push(place.seq);
        self.changed_epochs.push(changed.epoch);
        self.changed_seqs.push(changed.seq);
        self.change_ids.push(row.change_id.map(MessageId::as_str));
        self.edited_at.push(optional(row.edited_at)?);
        self.deleted_at.push(optional(row.deleted_at)?);
        self.credits.push(row.credits.map(number).transpose()?);
        self.client_ids.push(row.identity.id.as_str());
        Ok(())
    }

    fn parameters(&self) -> Vec<Parameter<'_>> {
        vec![
            (&self.ids, Type::TEXT_ARRAY),
            (&self.rooms, Type::TEXT_ARRAY),
            (&self.users, Type::TEXT_ARRAY),
            (&self.contents, Type::TEXT_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.metadata, Type::TEXT_ARRAY),
            (&self.created_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.updated_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.send_time, Type::TIMESTAMPTZ_ARRAY),
            (&self.epochs, Type::INT8_ARRAY),
            (&self.seqs, Type::INT8_ARRAY),
            (&self.changed_epochs, Type::INT8_ARRAY),
            (&self.changed_seqs, Type::INT8_ARRAY),
            (&self.change_ids, Type::TEXT_ARRAY),
            (&self.edited_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.deleted_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.credits, Type::INT8_ARRAY),
            (&self.client_ids, Type::TEXT_ARRAY),
            (&self.metadata_texts, Type::TEXT_ARRAY),
        ]
    }
}

/// The columns of [`UPDATE`].
#[derive(Default)]
struct Updates<'a> {
    ids: Vec<&'a str>,
    contents: Vec<&'a str>,
    metadata: Vec<Option<Cow<'a, str>>>,
    metadata_texts: Vec<Option<&'a str>>,
    edited_at: Moments,
    deleted_at: Moments,
    updated_at: Vec<Moment>,
    changed_epochs: Vec<i64>,
    changed_seqs: Vec<i64>,
    change_ids: Vec<&'a str>,
}

impl<'a> Updates<'a> {
    fn of(plan: &'a WritePlan<'_>) -> Result<Updates<'a>, StoreError> {
        let mut columns = Updates::default();
        for (row_id, update) in &plan.updates {
            columns.push(row_id, update)?;
        }
        Ok(columns)
    }

    fn push(&mut self, row_id: &'a str, update: &'a Update<'_>) -> Result<(), StoreError> {
        let changed = Place::exactly(update.changed)?;
        self.ids.push(row_id);
        self.contents.push(update.content);
        let metadata = update.metadata.as_deref();
        self.metadata.push(metadata.map(Metadata::for_decimals));
        self.metadata_texts.push(metadata.and_then(kept));
        self.edited_at.push(optional(update.edited_at)?);
        self.deleted_at.push(optional(update.deleted_at)?);
        self.updated_at.push(Moment::of(update.updated_at)?);
        self.changed_epochs.push(changed.epoch);
        self.changed_seqs.push(changed.seq);
        self.change_ids.push(update.change_id.as_str());
        Ok(())
    }

    fn parameters(&self) -> Vec<Parameter<'_>> {
        vec![
            (&self.ids, Type::TEXT_ARRAY),
            (&self.contents, Type::TEXT_ARRAY),
            (&self.metadata, Type::TEXT_ARRAY),
            (&self.edited_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.deleted_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.updated_at, Type::TIMESTAMPTZ_ARRAY),
            (&self.changed_epochs, Type::INT8_ARRAY),
            (&self.changed_seqs, Type::INT8_ARRAY),
            (&self.change_ids, Type::TEXT_ARRAY),
            (&self.metadata_texts, Type::TEXT_ARRAY),
        ]
    }
}
