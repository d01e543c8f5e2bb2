package state

import (
	"context"
	"fmt"
	"time"

	"github.com/estuary-pki/estuary/services/store"
)

// Cursor is a place in the order of the tokens' making. The zero Cursor is before all.
type Cursor struct {
	// CreatedAt and ID are those of the last token before the place.
	CreatedAt time.Time
	// ID decides between tokens of one microsecond.
	ID string
}

// Page is a part of the list.
type Page struct {
	// Tokens are in the order of their making.
	Tokens []Token
	// Forged are the ids of rows in between that do not carry their MAC. They authorise
	// nothing and are not shown as tokens: what they say is not ours.
	Forged []string
	// Next is where the next page begins; zero behind the last.
	Next Cursor
}

const (
	listTokens = `SELECT ` + columns + ` FROM enrolment_token
		WHERE (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3`
	listTokensOfClient = `SELECT ` + columns + ` FROM enrolment_token
		WHERE (created_at, id) > ($1, $2) AND client_id = $4 ORDER BY created_at, id LIMIT $3`
)

// ListTokens returns up to limit tokens behind the cursor, of one client or, where clientID
// is empty, of all.
func (s *Store) ListTokens(ctx context.Context, clientID string, after Cursor, limit int) (Page, error) {
	query, args := listTokens, []any{int64(0), after.ID, limit + 1} // one more tells whether there is a next page
	if !after.CreatedAt.IsZero() {
		args[0] = store.Micros(after.CreatedAt)
	}
	if clientID != "" {
		query, args = listTokensOfClient, append(args, clientID)
	}
	var rows []tokenRow
	err := s.db.Read(ctx, func(ctx context.Context, tx store.Tx) error {
		var err error
		rows, err = queryTokens(ctx, tx, query, args)
		return err
	})
	if err != nil {
		return Page{}, fmt.Errorf("listing tokens: %w", err)
	}
	var page Page
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		page.Next = Cursor{CreatedAt: store.Time(last.createdAt), ID: last.id}
	}
	for _, row := range rows {
		if !s.genuine(row) {
			page.Forged = append(page.Forged, row.id)
			continue
		}
		t, err := row.token()
		if err != nil {
			return Page{}, err
		}
		page.Tokens = append(page.Tokens, t)
	}
	return page, nil
}

func queryTokens(ctx context.Context, tx store.Tx, query string, args []any) ([]tokenRow, error) {
	found, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = found.Close() }()
	var rows []tokenRow
	for found.Next() {
		row, err := scanToken(found)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, found.Err()
}
