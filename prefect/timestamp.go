package prefect

import "time"

// Timestamp spells a time as the server does: UTC, with microseconds, which is the
// resolution that it stores. Such texts sort as the times do.
func Timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }
