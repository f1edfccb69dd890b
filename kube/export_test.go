package kube

// SetMaxAnswer replaces the bound on an answer's bytes.
func (c *Client) SetMaxAnswer(n int) { c.maxAnswer = n }
