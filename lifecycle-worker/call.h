/*
 * call - takes one provider call from its first request to its end.
 *
 * Owns: entering and leaving the gate, stepping the call's machine, its requests and waits, the
 * bound of the attempt. Does not own: what is called for (begin.c, kill.c, reconcile.c fill
 * flight->call in), what the end means (flight->on_end), the wire (common/provider). Threads: the
 * worker's one. Failure: none; every way a call can end is reported to flight->on_end.
 */
#ifndef WORKER_CALL_H
#define WORKER_CALL_H

#include "lifecycle-worker/flight.h"

/* Resets flight->call: it has sent no request. */
void call_init(struct flight *flight, enum provider_op op);
/* Enters the gate, which must be open, and takes the first step of flight->call. */
void call_begin(struct flight *flight, struct gate *gate);
/* Continues a FLIGHT_WAITING call, inside its gate, after its wait. */
void call_resume(struct flight *flight);
/* Gives the place in the gate back, with what the call has shown of the provider; no effect when
 * none is held. */
void call_leave_gate(struct flight *flight, enum gate_verdict verdict);

/* The time by the database's clock, no earlier than the flight's claim. */
int64_t call_now_ms(const struct flight *flight);

#endif
