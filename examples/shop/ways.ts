/** Where the two services meet: topics of the broker. */
export const shopWay = "shop/orders";
export const shippingWay = "shipping/parcels";
