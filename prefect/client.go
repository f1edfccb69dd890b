// Package prefect is a client of the Prefect REST API, as far as dispatching
// flow runs needs it.
package prefect

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Options of a Client.
type Options struct {
	URL        string            // PREFECT_API_URL
	APIKey     string            // bearer
	AuthString string            // basic; wins over APIKey
	Headers    map[string]string // PREFECT_CLIENT_CUSTOM_HEADERS
	Version    string            // client version sent in the User-Agent; default "3.8.8"
	WorkerName string
	CSRF       bool         // PREFECT_CLIENT_CSRF_SUPPORT_ENABLED
	HTTP       *http.Client // TLS, proxies; nil: NewHTTPClient with defaults
	MaxRetries int
	Sleep      func(ctx context.Context, d time.Duration) error // nil: a real sleep
}

type Client struct{}

func New(o Options) (*Client, error) { panic("stub") }

// Kind says what a caller can do about an Error.
type Kind int

// Error is a failed request.
type Error struct {
	Op         string // "claim flow run ID"
	Kind       Kind
	Status     int    // 0: no answer
	Detail     string // the server's words
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string { panic("stub") }
func (e *Error) Unwrap() error { return e.Err }

const (
	Internal    Kind = iota
	NotFound         // 404
	Denied           // 401, 403
	Invalid          // 400, 409, 422
	Unavailable      // refused, time-out, 5xx, 429 after all retries
)

type WorkPool struct {
	ID, Name, Type   string
	IsPaused         bool
	ConcurrencyLimit *int
	Status           string
	Raw              json.RawMessage
}

type WorkQueue struct {
	ID, Name         string
	Priority         int
	IsPaused         bool
	ConcurrencyLimit *int
}

type StateDetails struct {
	TransitionID  string     `json:"transition_id,omitempty"`
	ScheduledTime *time.Time `json:"scheduled_time,omitempty"`
}

type State struct {
	ID        string
	Type      string // SCHEDULED, PENDING, ...
	Name      string
	Message   string
	Timestamp time.Time
	Details   StateDetails
	Raw       json.RawMessage
}

type FlowRun struct {
	ID, Name, FlowID, DeploymentID string
	StateType, StateName, StateID  string
	State                          *State // nil in a poll's answer
	NextScheduledStartTime         *time.Time
	ExpectedStartTime              *time.Time
	WorkQueueID                    string
	InfrastructurePID              string
	RunCount                       int
	Raw                            json.RawMessage
}

type ScheduledRequest struct {
	WorkQueueNames  []string
	ScheduledBefore time.Time
	ScheduledAfter  *time.Time
	Limit           int
}

type Deployment struct {
	ID, Name         string
	ConcurrencyLimit *int // of global_concurrency_limit or concurrency_limit
	Raw              json.RawMessage
}

type Flow struct {
	ID, Name string
	Raw      json.RawMessage
}

// Proposal is the body of set_state.
type Proposal struct {
	State json.RawMessage // {"type","name","message","data","state_details"}
	Force bool
}

// Verdict is the answer of set_state.
type Verdict struct {
	Status string // ACCEPT, REJECT, ABORT, WAIT
	Reason string
	Delay  time.Duration
	State  *State // the run's current state; nil if the server sent none
}

type Log struct {
	Name      string    `json:"name"`
	Level     int       `json:"level"`
	Message   string    `json:"message"`
	Timestamp time.Time `json:"timestamp"`
	FlowRunID string    `json:"flow_run_id"`
}

func (c *Client) ServerVersion(ctx context.Context) (string, error)                { panic("stub") }
func (c *Client) WorkPool(ctx context.Context, name string) (*WorkPool, error)     { panic("stub") }
func (c *Client) WorkQueues(ctx context.Context, pool string) ([]WorkQueue, error) { panic("stub") }
func (c *Client) Heartbeat(ctx context.Context, pool, worker string, every time.Duration) error {
	panic("stub")
}
func (c *Client) ScheduledFlowRuns(ctx context.Context, pool string, r ScheduledRequest) ([]FlowRun, error) {
	panic("stub")
}
func (c *Client) Deployments(ctx context.Context, ids []string) ([]Deployment, error) { panic("stub") }
func (c *Client) Deployment(ctx context.Context, id string) (*Deployment, error)      { panic("stub") }
func (c *Client) Flows(ctx context.Context, ids []string) ([]Flow, error)             { panic("stub") }
func (c *Client) FlowRun(ctx context.Context, id string) (*FlowRun, error)            { panic("stub") }
func (c *Client) FlowRunStates(ctx context.Context, id string) ([]State, error)       { panic("stub") }
func (c *Client) SetState(ctx context.Context, id string, p Proposal) (*Verdict, error) {
	panic("stub")
}
func (c *Client) SetInfrastructurePID(ctx context.Context, id, pid string) error { panic("stub") }
func (c *Client) CreateLogs(ctx context.Context, logs []Log) error               { panic("stub") }
func (c *Client) BlockDocument(ctx context.Context, id string) (json.RawMessage, error) {
	panic("stub")
}
func (c *Client) BlockDocumentByName(ctx context.Context, typeSlug, name string) (json.RawMessage, error) {
	panic("stub")
}

// Variable is the JSON value of a variable; NotFound if there is none.
func (c *Client) Variable(ctx context.Context, name string) (json.RawMessage, error) { panic("stub") }
