package prefect

// ShrinkAnswers makes the bounds of answers smaller by a factor, for tests with small
// answers: 64 KiB for a page and 256 KiB for an object instead of 16 and 64 MiB.
func (c *Client) ShrinkAnswers() {
	c.pages.pageBytes, c.pages.objectBytes = maxPageBytes/256, maxAnswerBytes/256
}
