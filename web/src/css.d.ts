/** Style sheets are imported for their effect; Vite takes them from there. */
declare module '*.css'
