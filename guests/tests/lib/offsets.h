/* Offsets that start.S and the C files must agree on; lib.h checks them. */
#define CPU_STACK 0
#define FRAME_SIZE 288
