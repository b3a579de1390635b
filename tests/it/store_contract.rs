//! What every store must do, whatever database is behind it.
//!
//! Each scenario is a function over the trait alone and wants a store in which nothing is yet.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

mod feed;
mod batches;
mod rounds;
mod names;
mod changes;
mod pages;
mod made;
mod receipts;
mod members;
mod reconciling;
mod erasure;
mod ledger;

/// Makes a test of each scenario, with a store that the given function opens; what it returns
/// beside the store lives until the test ends.
macro_rules! run_with {
    ($open:path: $($scenarios:ident::{$($scenario:ident),+ $(,)?}),+ $(,)?) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                let (store, _kept) = $open().await;
                super::$scenarios::$scenario(store).await;
            }
        )+)+
    };
}

/// Every scenario, with one kind of store.
macro_rules! every_scenario {
    ($open:path) => {
        run_with! { $open:
            batches::{
                an_epoch_is_minted_once_for_each_token,
                an_epoch_is_quiet_when_the_shard_has_nothing_young,
                a_batch_from_another_place_is_fenced,
                a_batch_under_an_older_epoch_is_fenced,
                a_message_offered_again_stands_once,
                a_faulty_row_undoes_its_batch_and_is_found_by_probing,
                probing_leaves_nothing_behind,
                dead_letters_are_kept_with_their_batch_or_not_at_all,
                heads_only_grow,
                shards_commit_side_by_side,
                the_database_answers,
            },
            rounds::{
                a_round_stores_what_every_shard_has_and_leaves_out_who_has_moved,
                a_faulty_row_undoes_its_round_and_its_half_is_found,
                who_takes_an_id_first_in_a_round_has_it_and_changes_find_their_own,
                a_balance_is_moved_by_all_shards_of_a_round_at_once,
                rounds_that_want_the_same_rows_wait_for_one_another,
            },
            names::{
                a_message_comes_back_as_it_was_sent,
                a_taken_id_is_stored_under_another_and_read_under_its_own,
                a_renamed_message_is_changed_under_its_own_id,
                where_two_have_one_id_each_changes_their_own,
                our_key_in_the_metadata_of_a_client_means_nothing,
                a_delete_that_says_whose_takes_the_id_from_nobody_else,
                whatever_ids_others_take_every_message_stands,
                ids_of_any_form_are_themselves_and_nothing_else,
                identities_are_found_by_room_and_sender,
            },
            changes::{
                an_edit_replaces_the_content_and_keeps_metadata_it_does_not_name,
                an_older_change_is_ignored,
                nothing_revives_a_deleted_message,
                a_delete_of_an_unknown_message_takes_its_id,
                a_moderators_delete_takes_the_id_from_its_sender,
                a_delete_of_an_id_known_elsewhere_leaves_its_tombstone_here,
                an_edit_of_an_unknown_message_changes_nothing,
                a_change_stays_in_its_room,
                batches_of_any_size_lead_to_one_state,
            },
            pages::{
                pages_are_read_in_both_directions_across_epochs,
                changes_give_each_message_once_as_it_is_now,
                what_stood_at_a_position_is_known,
                rooms_do_not_mix,
            },
            made::{
                a_change_that_was_made_does_nothing_however_late_it_comes,
                an_edit_without_its_message_can_come_again,
                a_message_is_found_by_the_id_that_its_room_knows,
            },
            receipts::{
                a_receipt_only_moves_on,
                of_a_batch_the_furthest_receipt_of_each_reader_counts,
                unread_is_what_others_said_and_stands,
            },
            ledger::{
                a_movement_counts_once_however_often_it_comes,
                an_id_with_another_amount_or_user_is_put_aside_once,
                probing_a_movement_moves_nothing,
                balances_are_the_sums_whatever_comes_again,
                what_a_message_cost_is_read_with_it,
                a_messages_cost_counts_whoever_took_its_id,
            },
            members::{
                a_member_is_what_was_last_said,
                members_are_read_page_by_page_without_the_removed,
                the_later_revocation_stays_until_it_can_be_forgotten,
            },
            erasure::{
                of_an_erased_person_only_places_and_ids_are_left,
                an_erased_room_leaves_others_alone,
                dead_letters_are_erased_but_not_movements_of_credits,
                the_oldest_messages_expire_and_the_newest_of_a_room_stays,
                a_ledger_agrees_with_messages_that_expired_or_were_erased,
            },
        }
    };
}

pub(crate) mod postgres;

mod sqlite {
    use std::future::{Ready, ready};
    use std::sync::Arc;

    use shared::process::clock::Clock;
    use shared::store::Store;
    use shared::store::sqlite::SqliteStore;

    fn open() -> Ready<(Arc<dyn Store>, tempfile::TempDir)> {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), Clock::system()).unwrap();
        ready((Arc::new(store), folder))
    }

    every_scenario!(open);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_difference_is_found() {
        let (store, folder) = open().await;
        let shell = rusqlite::Connection::open(folder.path().join("roomcast.db")).unwrap();
        let meddle = async |sql: &str| shell.execute_batch(sql).unwrap();
        super::reconciling::every_difference_is_found(store, meddle).await;
    }
}
