/*
 * What a network card with offloads does besides moving frames: checksums that a
 * driver left out, and segments of one TCP stream merged into one large frame.
 *
 * Such a frame has a header of its own in front of it: struct virtio_net_hdr
 * (virtio 1.2, 5.1.6), without num_buffers.
 */
#ifndef _NET_OFFLOAD_H_
#define _NET_OFFLOAD_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_HEADER 10
#define NET_FRAME_MAX 65549

/*
 * Fill in the checksum that the header of a driver's frame asks for. The header
 * may be anything; false: it makes no sense, or asks for what is not here.
 */
bool net_finish_frame(const uint8_t *header, uint8_t *frame, size_t len);

/* A frame that may grow; `len` 0: none. The header is NET_HEADER bytes of message. */
struct net_merge {
	uint8_t message[65559]; /* NET_HEADER + NET_FRAME_MAX */
	size_t len;             /* of the frame */
	size_t payload;         /* where TCP's begins */
	size_t mss;             /* of the first segment; 0: nothing can be added */
	uint32_t next;          /* sequence number behind it */
	unsigned segments;
};
/* Begin with a frame; false: it is longer than any. */
bool net_merge_start(struct net_merge *m, const uint8_t *frame, size_t len);
/* Add the next segment of the same stream; false: the frame is not that. */
bool net_merge_add(struct net_merge *m, const uint8_t *frame, size_t len);
/* No more: write the header, and the lengths and checksums of a merged frame. */
void net_merge_end(struct net_merge *m, bool checked);

#endif /* !_NET_OFFLOAD_H_ */
