package store

import "github.com/jackc/pgx/v5"

// CheckTLS is checkTLS of a URL.
func CheckTLS(url string) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	return checkTLS(config)
}

// Statements and Placeholders are the readers of SQL text.
var (
	Statements   = statements
	Placeholders = placeholders
)

// SetGroup sets how many writes share a commit of a SQLite store; before the first write.
func SetGroup(db *DB, n int) { db.engine.(*lite).writer.group = n }

// Waiting returns how many writes lie in the queue of a SQLite store.
func Waiting(db *DB) int { return len(db.engine.(*lite).writer.queue) }

// Compiled returns the statements that wait for their next run on the writer's connection of
// a SQLite store, by their text; between two writes.
func Compiled(db *DB) map[string]any {
	all := make(map[string]any)
	_ = db.engine.(*lite).writer.conn.Raw(func(c any) error {
		for query, s := range c.(*connection).idle {
			all[query] = s
		}
		return nil
	})
	return all
}
