// Package protocol holds no code of the product: its tests are a model of how
// dispatchers, sweeps, engines, users and both servers act on one flow run. They explore
// every interleaving, and show for each rule of the protocol what goes wrong without it.
package protocol
